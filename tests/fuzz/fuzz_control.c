/* Fuzz target: one datagram of a hostile peer, received as a control message. With clang's -fsanitize=fuzzer
 * (option `fuzzers`) it is a libFuzzer program; its main file below runs it on files or on generated inputs.
 */
#include "tests/fuzz/fuzz.h"

#include "ipc/control.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int sockets[2] = {-1, -1};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sockets[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        abort();
    if (size == 0 || send(sockets[0], data, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return 0;
    struct control_message m;
    if (control_recv(sockets[1], &m) != 1)
        return 0;

    /* What was understood can be written again. Reading it back may fail: unknown fields are kept as they
     * came. */
    size_t len = cleave__control__get_packed_size(m.body);
    uint8_t *bytes = malloc(len + 1);
    if (!bytes || cleave__control__pack(m.body, bytes) != len)
        abort();
    Cleave__Control *again = cleave__control__unpack(NULL, len, bytes);
    if (again)
        cleave__control__free_unpacked(again, NULL);
    free(bytes);
    control_release(&m);
    return 0;
}
