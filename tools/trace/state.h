/* The state directory: what outlives machines. Knows no trace format. */
#pragma once

#include <stddef.h>

/* Writes the path of STATE, or of NAME in it: $XDG_STATE_HOME/cleave, or ~/.local/state/cleave. 0, -ENOENT
 * without either variable, -ENAMETOOLONG. NULL for STATE itself. */
int state_path(const char *name, char *path, size_t size);

/* Opens the directory NAME in STATE; what is missing of the path is made, mode 0700. Returns the descriptor
 * or negative errno. */
int state_open(const char *name);
