/* The lists. Calls that a library may make on its way to an error are in them too: a process must be able to
 * say why it fails. */
#include "ipc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const always[] = {"read",
                                     "write",
                                     "readv",
                                     "writev",
                                     "close",
                                     "lseek",
                                     "fstat",
                                     "poll",
                                     "ppoll",
                                     "epoll_wait",
                                     "epoll_pwait",
                                     "epoll_ctl",
                                     "recvmsg",
                                     "sendmsg",
                                     "recvfrom",
                                     "sendto",
                                     "getsockopt",
                                     "shutdown",
                                     "munmap",
                                     "mremap",
                                     "madvise",
                                     "brk",
                                     "futex",
                                     "sched_yield",
                                     "sched_getaffinity",
                                     "set_robust_list",
                                     "rseq",
                                     "rt_sigaction",
                                     "rt_sigprocmask",
                                     "rt_sigreturn",
                                     "sigaltstack",
                                     "restart_syscall",
                                     "getpid",
                                     "gettid",
                                     "clock_gettime",
                                     "clock_nanosleep",
                                     "nanosleep",
                                     "gettimeofday",
                                     "time",
                                     "getrandom",
                                     "exit",
                                     "exit_group",
                                     NULL};

static const char *const files[] = {"pread64", "pwrite64",  "preadv",    "pwritev",   "preadv2", "pwritev2",
                                    "fsync",   "fdatasync", "fallocate", "ftruncate", NULL};

static const char *const memory[] = {"memfd_create", "ftruncate", "pwrite64", NULL};

static const char *const internet[] = {"bind",       "listen",      "connect",     "accept",
                                       "accept4",    "getsockname", "getpeername", "setsockopt",
                                       "newfstatat", "stat",        NULL};

static const char *const connects[] = {"connect", NULL};

static const char *const accepts[] = {"accept4", NULL};

/* Nothing of ours has a reason to. */
static const char *const deadly[] = {"execve",
                                     "execveat",
                                     "fork",
                                     "vfork",
                                     "ptrace",
                                     "process_vm_readv",
                                     "process_vm_writev",
                                     "pidfd_open",
                                     "pidfd_getfd",
                                     "kcmp",
                                     "bpf",
                                     "perf_event_open",
                                     "userfaultfd",
                                     "io_uring_setup",
                                     "keyctl",
                                     "add_key",
                                     "request_key",
                                     "mount",
                                     "umount2",
                                     "move_mount",
                                     "open_tree",
                                     "fsopen",
                                     "pivot_root",
                                     "chroot",
                                     "unshare",
                                     "setns",
                                     "open_by_handle_at",
                                     "init_module",
                                     "finit_module",
                                     "kexec_load",
                                     "setuid",
                                     "setgid",
                                     "setreuid",
                                     "setregid",
                                     "setresuid",
                                     "setresgid",
                                     "capset",
                                     NULL};

/* A call that is allowed if one of its arguments, under a mask, has a value. */
struct condition {
    unsigned right; /* that it is for; 0: for all */
    const char *name;
    unsigned argument;
    uint64_t mask, value;
};

#define ALL        UINT64_MAX
#define NEW_THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

static const struct condition conditions[] = {
    {0, "mmap", 2, PROT_EXEC, 0},
    {0, "mprotect", 2, PROT_EXEC, 0},
    {0, "newfstatat", 3, AT_EMPTY_PATH, AT_EMPTY_PATH},
    {0, "fcntl", 1, ALL, F_GETFD},
    {0, "fcntl", 1, ALL, F_SETFD},
    {0, "fcntl", 1, ALL, F_GETFL},
    {0, "fcntl", 1, ALL, F_SETFL},
    {0, "fcntl", 1, ALL, F_DUPFD_CLOEXEC},
    {0, "ioctl", 1, ALL, FIONBIO},
    {0, "ioctl", 1, ALL, FIONREAD},
    {0, "ioctl", 1, ALL, FIOCLEX},
    {0, "ioctl", 1, ALL, TCGETS}, /* isatty() of stdio */
    {0, "prctl", 0, ALL, PR_SET_NAME},
    {SANDBOX_THREADS, "clone", 0, NEW_THREAD, NEW_THREAD},
    {SANDBOX_THREADS, "prlimit64", 2, ALL, 0}, /* to look at one */
    {SANDBOX_FILES, "fcntl", 1, ALL, F_OFD_GETLK},
    {SANDBOX_MEMORY, "fcntl", 1, ALL, F_ADD_SEALS},
    {SANDBOX_MEMORY, "fcntl", 1, ALL, F_GET_SEALS},
    {SANDBOX_INTERNET, "socket", 0, ALL, AF_INET},
    {SANDBOX_INTERNET, "socket", 0, ALL, AF_INET6},
    {SANDBOX_INTERNET, "openat", 2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY},
    {SANDBOX_CONNECT, "socket", 0, ALL, AF_UNIX},
    {SANDBOX_TERMINAL, "ioctl", 1, ALL, TIOCGPTPEER},
    {SANDBOX_TAP, "ioctl", 1, ALL, TUNSETOFFLOAD},
};

static const struct {
    unsigned right;
    const char *const *names;
} lists[] = {{0, always},
             {SANDBOX_FILES, files},
             {SANDBOX_MEMORY, memory},
             {SANDBOX_INTERNET, internet},
             {SANDBOX_CONNECT, connects},
             {SANDBOX_ACCEPT, accepts}};

/* Calls that this processor's Linux does not have need no rule. */
static int add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned n, struct scmp_arg_cmp arg)
{
    int number = seccomp_syscall_resolve_name(name);
    return number < 0 ? 0 : seccomp_rule_add_array(ctx, action, number, n, &arg);
}

static int add_list(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
    int err = 0;
    for (; *names && !err; names++)
        err = add(ctx, action, *names, 0, (struct scmp_arg_cmp){0});
    return err;
}

static int add_condition(scmp_filter_ctx ctx, const struct condition *c)
{
    struct scmp_arg_cmp arg = {c->argument, SCMP_CMP_MASKED_EQ, c->mask, c->value};
    return add(ctx, SCMP_ACT_ALLOW, c->name, 1, arg);
}

static int add_rules(scmp_filter_ctx ctx, unsigned rights)
{
    int err = add_list(ctx, SCMP_ACT_KILL_PROCESS, deadly);
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !err; i++)
        if ((lists[i].right & rights) == lists[i].right)
            err = add_list(ctx, SCMP_ACT_ALLOW, lists[i].names);
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions && !err; i++)
        if ((conditions[i].right & rights) == conditions[i].right)
            err = add_condition(ctx, &conditions[i]);
    if (!err) /* a signal to itself: abort() */
        err = add_condition(ctx, &(struct condition){0, "tgkill", 0, ALL, (uint64_t)getpid()});
    if (!err) /* its flags are out of the filter's sight: clone() is used instead */
        err = add(ctx, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, (struct scmp_arg_cmp){0});
    return err;
}

int sandbox_enter(unsigned rights)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!err)
        err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (!err)
        err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
    if (!err)
        err = add_rules(ctx, rights);
    if (!err)
        err = seccomp_load(ctx);
    seccomp_release(ctx);
    return err;
}
