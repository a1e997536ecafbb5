/* What a process in a sandbox can still do, and how it ends if it tries more: each try is a process. */
#include "ipc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ALLOWED = 0, REFUSED = 1, OTHERWISE = 2 };

static int result(bool done)
{
    return done ? ALLOWED : errno == EPERM ? REFUSED : OTHERWISE;
}

/* How a process ends that enters the sandbox and tries: an exit status, or a signal's number, negative. */
static int outcome(unsigned rights, int (*attempt)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (sandbox_enter(rights) < 0)
            _exit(100);
        _exit(attempt());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int open_to_read(void)
{
    return result(open("/etc/passwd", O_RDONLY) >= 0);
}

static int open_to_write(void)
{
    return result(open("/tmp", O_TMPFILE | O_WRONLY, 0600) >= 0);
}

static int truncate_file(void)
{
    return result(open("/dev/null", O_RDONLY | O_TRUNC) >= 0);
}

static int internet(void)
{
    return result(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_INET6, SOCK_DGRAM, 0) >= 0);
}

static int unix_socket(void)
{
    return result(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static int packet_socket(void)
{
    return result(socket(AF_PACKET, SOCK_RAW, 0) >= 0);
}

static int signal_parent(void)
{
    return result(kill(getppid(), 0) == 0);
}

static int executable_memory(void)
{
    return result(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static int make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? OTHERWISE : result(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
}

static int memory_file(void)
{
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return result(fd >= 0 && ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
}

static int raise_a_limit(void)
{
    struct rlimit l = {1, 1};
    return result(setrlimit(RLIMIT_NOFILE, &l) == 0);
}

static int take_signals_of(void)
{
    return result(fcntl(0, F_SETOWN, getppid()) == 0);
}

static void *end_thread(void *arg)
{
    return arg;
}

static int thread(void)
{
    pthread_t t;
    void *got;
    errno = pthread_create(&t, NULL, end_thread, &errno);
    return result(errno == 0 && pthread_join(t, &got) == 0 && got == &errno);
}

static int start_program(void)
{
    return result(execl("/bin/true", "true", NULL) == 0);
}

static int other_process(void)
{
    return result(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0);
}

static int fail_loudly(void)
{
    abort();
}

static int work(void)
{
    char *p = malloc(1 << 22);
    memset(p, 1, 1 << 22);
    free(p);
    return result(write(STDERR_FILENO, "", 0) == 0 && fcntl(0, F_GETFL) >= 0 && usleep(1) == 0);
}

static void test_nothing_more_than_work(void **state)
{
    int (*const refused[])(void) = {open_to_read,    open_to_write, truncate_file, internet,
                                    unix_socket,     packet_socket, signal_parent, executable_memory,
                                    make_executable, memory_file,   raise_a_limit, take_signals_of,
                                    thread};
    assert_int_equal(outcome(0, work), ALLOWED);
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        if (outcome(0, refused[i]) != REFUSED)
            fail_msg("attempt %u is not refused but %d", i, outcome(0, refused[i]));
}

static void test_rights(void **state)
{
    assert_int_equal(outcome(SANDBOX_THREADS, thread), ALLOWED);
    assert_int_equal(outcome(SANDBOX_THREADS, raise_a_limit), REFUSED);
    assert_int_equal(outcome(SANDBOX_MEMORY, memory_file), ALLOWED);
    assert_int_equal(outcome(SANDBOX_CONNECT, unix_socket), ALLOWED);
    assert_int_equal(outcome(SANDBOX_CONNECT, internet), REFUSED);
    assert_int_equal(outcome(SANDBOX_INTERNET, internet), ALLOWED);
    assert_int_equal(outcome(SANDBOX_INTERNET, unix_socket), REFUSED);
    assert_int_equal(outcome(SANDBOX_INTERNET, packet_socket), REFUSED);
    assert_int_equal(outcome(SANDBOX_INTERNET, open_to_read), ALLOWED);
    assert_int_equal(outcome(SANDBOX_INTERNET, open_to_write), REFUSED);
    assert_int_equal(outcome(SANDBOX_INTERNET, truncate_file), REFUSED);
    assert_int_equal(outcome(UINT32_MAX, start_program), -SIGSYS);
}

static void test_intruders_end(void **state)
{
    assert_int_equal(outcome(0, start_program), -SIGSYS);
    assert_int_equal(outcome(0, other_process), -SIGSYS);
    assert_int_equal(outcome(0, fail_loudly), -SIGABRT);
}

/* Threads that there are already are in it too. */
static void *try_to_open(void *gate)
{
    char c;
    return read(*(int *)gate, &c, 1) == 1 && open("/etc/passwd", O_RDONLY) < 0 && errno == EPERM ? gate
                                                                                                 : NULL;
}

static void test_threads_that_are_there(void **state)
{
    int gate[2], status;
    assert_int_equal(pipe(gate), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        void *got = NULL;
        if (pthread_create(&t, NULL, try_to_open, &gate[0]) || sandbox_enter(SANDBOX_THREADS) < 0 ||
            write(gate[1], "", 1) != 1)
            _exit(100);
        pthread_join(t, &got);
        _exit(got ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_more_than_work),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_intruders_end),
        cmocka_unit_test(test_threads_that_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
