/* `cleave doctor`: one line a check, with a fix for what is wrong. Each check does what a machine will do, as
 * far as it leaves nothing behind. */
#include "tools/supervisor/config.h"
#include "tools/supervisor/host.h"
#include "tools/supervisor/images.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/runtime.h"
#include "tools/supervisor/spawn.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum verdict { VERDICT_OK, VERDICT_WARNING, VERDICT_BAD };

struct finding {
    enum verdict verdict;
    char text[700], fix[300];
};

static void bad(struct finding *r, const char *text, int err, const char *fix)
{
    r->verdict = VERDICT_BAD;
    snprintf(r->text, sizeof(r->text), "%s%s%s", text, err ? ": " : "", err ? strerror(err) : "");
    snprintf(r->fix, sizeof(r->fix), "%s", fix);
}

static void check_memfd(struct finding *r)
{
    int fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, 4096) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) < 0)
        bad(r, "no sealed shared memory", errno, "cleave needs Linux 5.9 or later");
    else
        snprintf(r->text, sizeof(r->text), "sealed shared memory");
    if (fd >= 0)
        close(fd);
}

static void check_clone(struct finding *r)
{
    int pidfd = -1, status;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        _exit(0);
    if (pid < 0) {
        bad(r, "no clone3 with process descriptors", errno,
            "cleave needs Linux 5.9 or later; a container may forbid clone3");
        return;
    }
    waitpid((pid_t)pid, &status, 0);
    close(pidfd);
    snprintf(r->text, sizeof(r->text), "process descriptors");
}

static void check_sandbox(struct finding *r)
{
    /* Without a filter to look at, an answer about it says that there are filters. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0 && errno == EFAULT) {
        snprintf(r->text, sizeof(r->text), "filters of system calls");
        return;
    }
    bad(r, "no filters of system calls: the processes run without a sandbox", errno,
        "use a kernel with CONFIG_SECCOMP_FILTER");
    r->verdict = VERDICT_WARNING;
}

static void check_programs(struct finding *r)
{
    static const char *const names[] = {"cleave-vcpu",   "cleave-block", "cleave-net",
                                        "cleave-serial", "cleave-input", "cleave-rng"};
    char path[4096], missing[200] = "";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t n = strlen(missing);
        if (spawn_find(names[i], path, sizeof(path)) < 0)
            snprintf(missing + n, sizeof(missing) - n, " %s", names[i]);
    }
    if (*missing) {
        char text[300];
        snprintf(text, sizeof(text), "programs are missing:%s", missing);
        bad(r, text, 0, "install them beside 'cleave' or in ../libexec/cleave");
        return;
    }
    snprintf(r->text, sizeof(r->text), "programs of the processes");
}

static void check_runtime(struct finding *r)
{
    struct runtime rt;
    struct failure f;
    char path[4096], name[40];
    snprintf(name, sizeof(name), "doctor-%d", (int)getpid());
    if (runtime_create(name, &rt, &f) < 0) {
        bad(r, f.text, 0, f.hint);
        return;
    }
    runtime_remove(&rt);
    if (runtime_path(path, sizeof(path)) == 0)
        snprintf(r->text, sizeof(r->text), "runtime directory %.300s", path);
}

static void check_bios(struct finding *r)
{
    const char *path = images_default_bios();
    if (path) {
        snprintf(r->text, sizeof(r->text), "firmware %s", path);
        return;
    }
    bad(r, "no OpenSBI firmware is installed", 0, "install the package 'opensbi', or give --bios");
    r->verdict = VERDICT_WARNING;
}

static void check_tap(struct finding *r)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        snprintf(r->text, sizeof(r->text), "/dev/net/tun for --net tap");
        return;
    }
    bad(r, "--net tap cannot work: /dev/net/tun", errno,
        "load the module 'tun' and allow this user to open the device");
    r->verdict = VERDICT_WARNING;
}

static void check_engine(struct finding *r)
{
    const char *lacks = host_translator_lacks();
    if (!lacks) {
        snprintf(r->text, sizeof(r->text), "the translator (--engine jit)");
        return;
    }
    snprintf(r->text, sizeof(r->text), "the interpreter only: the translator needs %s", lacks);
    snprintf(r->fix, sizeof(r->fix), "run on an x86-64 host with AVX2, BMI2 and FMA");
    r->verdict = VERDICT_WARNING;
}

static void check_fds(struct finding *r)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 256) {
        snprintf(r->text, sizeof(r->text), "%llu file descriptors a process",
                 (unsigned long long)limit.rlim_cur);
        return;
    }
    bad(r, "fewer than 256 file descriptors a process", 0, "ulimit -n 1024");
}

static void check_temporary(struct finding *r)
{
    const char *dir = getenv("TMPDIR");
    struct statvfs fs;
    dir = dir && *dir ? dir : "/tmp";
    if (access(dir, W_OK) < 0 || statvfs(dir, &fs) < 0) {
        bad(r, "no directory for temporary overlays", errno, "set TMPDIR to a directory that can be written");
        return;
    }
    unsigned long long mib = (unsigned long long)fs.f_bavail * fs.f_frsize >> 20;
    if (mib < 256) {
        bad(r, "less than 256 MiB for temporary overlays", 0, "set TMPDIR to a file system with more room");
        r->verdict = VERDICT_WARNING;
        return;
    }
    snprintf(r->text, sizeof(r->text), "%llu MiB for temporary overlays in %s", mib, dir);
}

static const struct {
    const char *name;
    void (*check)(struct finding *r);
} checks[] = {
    {"memory", check_memfd},        {"processes", check_clone},
    {"programs", check_programs},   {"sandbox", check_sandbox},
    {"runtime", check_runtime},     {"files", check_fds},
    {"temporary", check_temporary}, {"firmware", check_bios},
    {"engine", check_engine},       {"tap", check_tap},
};

static int report(const char *name, const struct finding *r, json_t *list)
{
    static const char *const words[] = {"ok", "warning", "failed"};
    if (message_style.json) {
        json_t *o =
            json_pack("{s:s, s:s, s:s}", "check", name, "verdict", words[r->verdict], "text", r->text);
        if (r->fix[0])
            json_object_set_new(o, "fix", json_string(r->fix));
        json_array_append_new(list, o);
    } else if (r->verdict != VERDICT_OK || !message_style.quiet) {
        printf("%-8s %-10s %s\n", words[r->verdict], name, r->text);
        if (r->fix[0])
            printf("%-19s fix: %s\n", "", r->fix);
    }
    return r->verdict == VERDICT_BAD;
}

static void take_failure(struct finding *r, const struct failure *f)
{
    bad(r, f->text, 0, f->hint);
}

/* The files that a configuration names: opened, locked, and let go. */
static int check_config(const struct invocation *in, json_t *list)
{
    struct invocation run = {.verb = verb_find("run"), .nargs = 1, .args = {in->args[0]}};
    struct config c;
    struct failure f;
    struct finding r = {0};
    if (config_load(&run, &c, &f) < 0) {
        take_failure(&r, &f);
        return report("config", &r, list);
    }
    snprintf(r.text, sizeof(r.text), "%.300s", in->args[0]);
    int failed = report("config", &r, list);
    struct boot_images boot;
    r = (struct finding){.text = "kernel, firmware and initrd"};
    if (images_open_boot(&c, &boot, &f) < 0)
        take_failure(&r, &f);
    else
        images_close_boot(&boot);
    failed |= report("boot", &r, list);
    for (unsigned i = 0; i < c.ndisks; i++) {
        struct disk_image image;
        r = (struct finding){0};
        snprintf(r.text, sizeof(r.text), "%.300s", c.disks[i].path);
        if (c.disks[i].overlay_path && access(c.disks[i].overlay_path, F_OK) < 0)
            c.disks[i].overlay = false; /* would be created */
        if (images_open_disk(&c.disks[i], &image, &f) < 0)
            take_failure(&r, &f);
        else
            images_close_disk(&image);
        failed |= report(c.disks[i].id, &r, list);
    }
    config_release(&c);
    return failed;
}

int verb_doctor(const struct invocation *in, struct failure *f)
{
    json_t *list = json_array();
    int failed = 0;
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        struct finding r = {0};
        checks[i].check(&r);
        failed |= report(checks[i].name, &r, list);
    }
    if (in->nargs)
        failed |= check_config(in, list);
    if (message_style.json)
        message_data(list);
    json_decref(list);
    return failed ? STATUS_FAILED : STATUS_OK;
}
