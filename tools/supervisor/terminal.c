/* Terminal modes and escape keys. */
#include "tools/supervisor/terminal.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#define CTRL_A 0x01

static struct termios saved;
static bool have_saved;

bool terminal_save(void)
{
    have_saved = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
    return have_saved;
}

void terminal_raw(void)
{
    if (!have_saved || tcgetpgrp(STDIN_FILENO) != getpgrp())
        return;
    struct termios t = saved;
    cfmakeraw(&t);
    tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

void terminal_restore(void)
{
    if (!have_saved)
        return;
    /* From the background, setting modes would stop the process. */
    sigset_t ttou, old;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    sigprocmask(SIG_BLOCK, &ttou, &old);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

enum escape_event escape_feed(struct escape *e, const uint8_t *in, size_t n, size_t *used, uint8_t *out,
                              size_t *out_len)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = in[i];
        if (!e->armed) {
            e->armed = b == CTRL_A;
            if (!e->armed)
                out[len++] = b;
            continue;
        }
        e->armed = false;
        if (b == 'x' || b == 'X' || b == '?') {
            *used = i + 1;
            *out_len = len;
            return b == '?' ? ESCAPE_HELP : ESCAPE_QUIT;
        }
        out[len++] = CTRL_A;
        if (b != CTRL_A)
            out[len++] = b;
    }
    *used = n;
    *out_len = len;
    return ESCAPE_NONE;
}
