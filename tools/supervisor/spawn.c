/* clone3 with a pidfd. Between clone and exec the child calls async-signal-safe functions only. */
#include "tools/supervisor/spawn.h"

#include "ipc/control.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors that the child will rearrange are moved above this. */
#define SPAWN_MIN_FD 10

extern char **environ;

struct ends {
    int null, control[2], errors[2];
};

static void close_ends(struct ends *e)
{
    int fds[] = {e->null, e->control[0], e->control[1], e->errors[0], e->errors[1]};
    for (unsigned i = 0; i < 5; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static int lift(int *fd)
{
    if (*fd >= SPAWN_MIN_FD)
        return 0;
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, SPAWN_MIN_FD);
    if (high < 0)
        return -errno;
    close(*fd);
    *fd = high;
    return 0;
}

static int open_ends(struct ends *e)
{
    *e = (struct ends){-1, {-1, -1}, {-1, -1}};
    e->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (e->null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->control) < 0 ||
        pipe2(e->errors, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(e->control[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(e->errors[0], F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    int err = lift(&e->null);
    if (!err)
        err = lift(&e->control[1]);
    return err ? err : lift(&e->errors[1]);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void say(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n;
}

static _Noreturn void child(const struct ends *e, char *const argv[], bool foreground, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    if (!foreground)
        setsid();
    reset_signals();
    if ((foreground || (dup2(e->null, STDIN_FILENO) >= 0 && dup2(e->null, STDOUT_FILENO) >= 0 &&
                        dup2(e->errors[1], STDERR_FILENO) >= 0)) &&
        dup2(e->control[1], CONTROL_CHILD_FD) >= 0 && close_range(CONTROL_CHILD_FD + 1, ~0U, 0) == 0)
        execve(argv[0], argv, environ);
    const char *why = strerrordesc_np(errno);
    say("cannot execute ");
    say(argv[0]);
    say(": ");
    say(why ? why : "unknown error");
    say("\n");
    _exit(127);
}

int spawn_command(char *const argv[], bool foreground, struct spawned *s)
{
    struct ends e;
    int err = open_ends(&e);
    if (err) {
        close_ends(&e);
        return err;
    }
    int pidfd = -1;
    pid_t parent = getpid();
    struct clone_args args = {
        .flags = CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        child(&e, argv, foreground, parent);
    if (pid < 0) {
        err = -errno;
        close_ends(&e);
        return err;
    }
    *s = (struct spawned){(pid_t)pid, pidfd, e.control[0], e.errors[0]};
    e.control[0] = e.errors[0] = -1;
    close_ends(&e);
    return 0;
}

int spawn(const char *path, const char *role, struct spawned *s)
{
    char *argv[] = {(char *)path, (char *)role, NULL};
    return spawn_command(argv, false, s);
}

int spawn_find(const char *name, char *path, size_t size)
{
    static const char *const places[] = {"", "../libexec/cleave/", NULL};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return -errno;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    slash[1] = '\0';
    for (unsigned i = 0; places[i]; i++) {
        int len = snprintf(path, size, "%s%s%s", self, places[i], name);
        if (len > 0 && (size_t)len < size && access(path, X_OK) == 0)
            return 0;
    }
    return -ENOENT;
}
