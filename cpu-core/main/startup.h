/* The vcpu process before the machine runs: the handshake with the supervisor, boot images, devices. */
#pragma once

#include "cpu-core/main/machine.h"

/* Performs the handshake on `control` up to and including Run, and creates the machine. On failure the reason
 * has been sent to the supervisor; -errno. The config's memory lives as long as the process. */
int startup(int control, struct machine **m);
