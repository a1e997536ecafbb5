/* The verbs that ask a running machine. */
#include "tools/supervisor/client.h"
#include "tools/supervisor/foreground.h"
#include "tools/supervisor/message.h"
#include "tools/supervisor/pages.h"
#include "tools/supervisor/runtime.h"
#include "tools/supervisor/spec.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ASK_MS 6000

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static long long number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* Machines whose answer came; one that ends meanwhile is left out. */
static int add_machine(void *ctx, const char *name)
{
    struct answer a;
    struct failure f;
    if (client_ask(name, "info", NULL, ASK_MS, &a, &f) == 0) {
        json_array_append(ctx, a.json);
        client_release(&a);
    }
    return 0;
}

static void print_machines(const json_t *list)
{
    size_t i, j;
    json_t *m, *p;
    printf("%-16s %-10s %8s  %s\n", "MACHINE", "STATE", "PID", "PROCESS");
    json_array_foreach(list, i, m)
    {
        json_array_foreach(json_object_get(m, "processes"), j, p)
        {
            printf("%-16s %-10s %8lld  %s%s%s\n", j ? "" : text(m, "name"), j ? "" : text(m, "state"),
                   number(p, "pid"), text(p, "role"), strcmp(text(p, "state"), "running") ? "  " : "",
                   strcmp(text(p, "state"), "running") ? text(p, "state") : "");
        }
    }
}

int verb_ps(const struct invocation *in, struct failure *f)
{
    json_t *list = json_array();
    int err = runtime_list(add_machine, list, f);
    if (!err && message_style.json)
        message_data(list);
    else if (!err)
        print_machines(list);
    json_decref(list);
    return err;
}

static void print_value(const char *key, const json_t *v)
{
    if (json_is_string(v))
        printf("%-10s %s\n", key, json_string_value(v));
    else if (json_is_integer(v))
        printf("%-10s %lld\n", key, (long long)json_integer_value(v));
    else if (json_is_real(v))
        printf("%-10s %g\n", key, json_real_value(v));
}

static void print_info(json_t *info)
{
    const char *key;
    size_t i;
    json_t *v, *d;
    json_object_foreach(info, key, v)
    {
        print_value(key, v);
    }
    v = json_object_get(info, "record");
    printf("%-10s %s%s%s\n", "recording", text(v, "state"), json_object_get(v, "trace") ? ": " : "",
           json_object_get(v, "trace") ? text(v, "trace") : "");
    printf("\n%-12s %-8s %-4s %-9s %-8s %s\n", "DEVICE", "KIND", "SLOT", "STATE", "BACKEND", "");
    json_array_foreach(json_object_get(info, "devices"), i, d)
    {
        bool closed = json_is_true(json_object_get(d, "closed"));
        const char *what = json_object_get(d, "path")  ? text(d, "path")
                           : json_object_get(d, "mac") ? text(d, "mac")
                                                       : "";
        printf("%-12s %-8s %-4lld %-9s %-8s %s%s\n", text(d, "id"), text(d, "kind"), number(d, "slot"),
               text(d, "state"), text(d, "backend"), closed ? "closed " : "open ", what);
    }
}

int verb_info(const struct invocation *in, struct failure *f)
{
    struct answer a;
    int err = client_ask(in->args[0], "info", NULL, ASK_MS, &a, f);
    if (err)
        return err;
    if (message_style.json)
        message_data(a.json);
    else
        print_info(a.json);
    client_release(&a);
    return STATUS_OK;
}

/* Nested counters as "a.b value". */
static void print_counters(const char *prefix, json_t *o)
{
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_array(o)) {
        json_array_foreach(o, i, v)
        {
            char name[200];
            const char *label = json_string_value(json_object_get(v, "id"));
            if (label)
                snprintf(name, sizeof(name), "%s.%s", prefix, label);
            else
                snprintf(name, sizeof(name), "%s.%zu", prefix, i);
            print_counters(name, v);
        }
    } else if (json_is_object(o)) {
        json_object_foreach(o, key, v)
        {
            char name[200];
            snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
            print_counters(name, v);
        }
    } else {
        char *value = json_dumps(o, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        printf("%-40s %s\n", prefix, value ? value : "");
        free(value);
    }
}

static void print_stats(json_t *stats)
{
    size_t i;
    json_t *p;
    printf("%-16s %8s %10s %10s\n", "PROCESS", "PID", "CPU ms", "PSS KiB");
    json_array_foreach(json_object_get(stats, "processes"), i, p)
    {
        printf("%-16s %8lld %10lld %10lld\n", text(p, "role"), number(p, "pid"), number(p, "cpu_ms"),
               number(p, "pss_kib"));
    }
    putchar('\n');
    print_counters("record", json_object_get(stats, "record"));
    print_counters("", json_object_get(stats, "vcpu"));
}

static int seconds_option(const struct invocation *in, const char *name, uint64_t fallback, uint64_t *seconds,
                          struct failure *f)
{
    const char *value = options_get(in, name);
    *seconds = fallback;
    if (value && (spec_number(value, seconds) < 0 || *seconds == 0 || *seconds > 86400))
        return failure_set(f, STATUS_USAGE, EINVAL, "--%s: '%s' is not a number of seconds from 1 to 86400",
                           name, value);
    return 0;
}

int verb_stats(const struct invocation *in, struct failure *f)
{
    uint64_t period;
    int err = seconds_option(in, "watch", 0, &period, f);
    if (err)
        return err;
    for (;;) {
        struct answer a;
        err = client_ask(in->args[0], "stats", NULL, ASK_MS, &a, f);
        if (err)
            return err;
        if (message_style.json)
            message_data(a.json);
        else
            print_stats(a.json);
        client_release(&a);
        if (!period || fflush(stdout) == EOF)
            return STATUS_OK;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_sec = (time_t)period}, NULL);
    }
}

static int simple(const struct invocation *in, const char *verb, int timeout_ms, struct failure *f)
{
    struct answer a;
    int err = client_ask(in->args[0], verb, NULL, timeout_ms, &a, f);
    if (err)
        return err;
    if (message_style.json)
        message_data(a.json);
    client_release(&a);
    return STATUS_OK;
}

int verb_stop(const struct invocation *in, struct failure *f)
{
    uint64_t timeout;
    int err = seconds_option(in, "timeout", 15, &timeout, f);
    if (err)
        return err;
    return simple(in, options_has(in, "force") ? "kill" : "stop", (int)timeout * 1000, f);
}

int verb_kill(const struct invocation *in, struct failure *f)
{
    return simple(in, "kill", ASK_MS, f);
}

int verb_pause(const struct invocation *in, struct failure *f)
{
    return simple(in, "pause", ASK_MS, f);
}

int verb_resume(const struct invocation *in, struct failure *f)
{
    return simple(in, "resume", ASK_MS, f);
}

static bool console_answer(struct foreground *g, struct answer *a)
{
    return false;
}

static bool console_quit(struct foreground *g, int signal)
{
    return true;
}

static const struct foreground_ops console_ops = {console_answer, console_quit};

static const char console_help[] = "\r\nCtrl-A x       detach\r\n"
                                   "Ctrl-A ?       this help\r\n"
                                   "Ctrl-A Ctrl-A  send one Ctrl-A\r\n";

int verb_console(const struct invocation *in, struct failure *f)
{
    static struct foreground g;
    struct answer a;
    const char *id = options_get(in, "device");
    int err = client_ask(in->args[0], "console", id ? json_pack("{s:s}", "device", id) : NULL, ASK_MS, &a, f);
    if (err)
        return err;
    if (a.fd < 0) {
        client_release(&a);
        return failure_set(f, STATUS_FAILED, EPROTO, "machine '%s' sent no console", in->args[0]);
    }
    g.ops = &console_ops;
    g.stream = a.fd;
    g.control = -1;
    g.ending = true; /* the stream's end is the end */
    g.read_stdin = true;
    g.terminal = terminal_save();
    g.help = console_help;
    a.fd = -1;
    client_release(&a);
    if (g.terminal)
        message_notice("attached; Ctrl-A x detaches");
    err = foreground_run(&g);
    return err ? failure_set(f, STATUS_FAILED, -err, "cannot attach: %s", strerror(-err)) : STATUS_OK;
}

static int send_input(const struct invocation *in, const char *type, const char *verb, json_t *args,
                      struct failure *f)
{
    struct answer a;
    const char *id = options_get(in, "device");
    json_t *body = json_pack("{s:s, s:s, s:o}", "verb", verb, "type", type, "args", args);
    if (id)
        json_object_set_new(body, "device", json_string(id));
    int err = client_ask(in->args[0], "input", body, ASK_MS, &a, f);
    if (!err)
        client_release(&a);
    return err;
}

static int send_text(const struct invocation *in, struct failure *f)
{
    char all[4096] = "";
    for (unsigned i = 2; i < in->nargs; i++) {
        size_t n = strlen(all);
        int len = snprintf(all + n, sizeof(all) - n, "%s%s", i > 2 ? " " : "", in->args[i]);
        if (len < 0 || n + (size_t)len >= sizeof(all))
            return failure_set(f, STATUS_USAGE, E2BIG, "input: the text is longer than %zu bytes",
                               sizeof(all) - 1);
    }
    return send_input(in, "keyboard", "text", json_pack("{s:s}", "text", all), f);
}

static int send_pointer(const struct invocation *in, struct failure *f)
{
    static const char *const names[] = {"x", "y", "buttons"};
    json_t *args = json_object();
    uint64_t value;
    for (unsigned i = 2; i < in->nargs; i++) {
        if (i > 4 || spec_number(in->args[i], &value) < 0 || value > (i == 4 ? 7 : 32767)) {
            json_decref(args);
            return failure_set(f, STATUS_USAGE, EINVAL,
                               "input: pointer: '%s' is out of place: X Y [BUTTONS], 0 to 32767",
                               in->args[i]);
        }
        json_object_set_new(args, names[i - 2], json_string(in->args[i]));
    }
    if (in->nargs < 4) {
        json_decref(args);
        return failure_set(f, STATUS_USAGE, EINVAL, "input: pointer needs X and Y");
    }
    return send_input(in, "pointer", "pointer", args, f);
}

int verb_input(const struct invocation *in, struct failure *f)
{
    if (strcmp(in->args[1], "text") == 0)
        return send_text(in, f);
    if (strcmp(in->args[1], "pointer") == 0)
        return send_pointer(in, f);
    if (strcmp(in->args[1], "key") != 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "input: '%s' is not one of key, text, pointer",
                           in->args[1]);
    for (unsigned i = 2; i < in->nargs; i++) {
        int err = send_input(in, "keyboard", "key", json_pack("{s:s}", "keys", in->args[i]), f);
        if (err)
            return err;
    }
    return STATUS_OK;
}

int verb_completion(const struct invocation *in, struct failure *f)
{
    int err = pages_completion(stdout, in->args[0]);
    if (err)
        return failure_set(f, STATUS_USAGE, EINVAL, "completion: '%s' is not one of bash, zsh, fish",
                           in->args[0]);
    return STATUS_OK;
}

int verb_man(const struct invocation *in, struct failure *f)
{
    char name[64] = "";
    for (unsigned i = 0; i < in->nargs; i++)
        snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s%s", i ? " " : "", in->args[i]);
    const struct verb *verb = in->nargs ? verb_find(name) : NULL;
    if (in->nargs && !verb)
        return failure_set(f, STATUS_USAGE, EINVAL, "man: unknown verb '%s'", name);
    pages_man(stdout, verb);
    return STATUS_OK;
}
