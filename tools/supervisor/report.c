/* Reports. The figures of processes come from /proc. */
#include "tools/supervisor/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static json_t *process(const char *role, pid_t pid, const char *state)
{
    return json_pack("{s:s, s:i, s:s}", "role", role, "pid", (int)pid, "state", state);
}

static json_t *processes(const struct machine *m)
{
    json_t *list = json_array();
    json_array_append_new(list, process("supervisor", getpid(), "running"));
    json_array_append_new(list, process(m->vcpu.role, m->vcpu.pid, lifecycle_state_name(m->vcpu.state)));
    if (m->record.state != RECORD_OFF)
        json_array_append_new(list, process(m->record.broker.role, m->record.broker.pid,
                                            lifecycle_state_name(m->record.broker.state)));
    for (unsigned i = 0; i < m->plan.n; i++) {
        const struct child *c = &m->devices[i].child;
        json_array_append_new(list, process(c->role, c->pid, lifecycle_state_name(c->state)));
    }
    return list;
}

static json_t *device(const struct device *d)
{
    const struct plan_device *p = d->plan;
    json_t *o = json_pack("{s:s, s:s, s:i, s:s}", "id", p->id, "kind", p->kind, "slot", p->slot, "state",
                          lifecycle_state_name(d->child.state));
    if (d->describe.body) {
        const Cleave__Describe *desc = d->describe.body->describe;
        json_object_set_new(o, "backend", json_string(desc->backend));
        json_object_set_new(o, "closed", json_boolean(desc->closed));
    }
    for (unsigned i = 0; i < p->noptions; i++) {
        if (strcmp(p->options[i].key, "mac") == 0 || strcmp(p->options[i].key, "path") == 0 ||
            strcmp(p->options[i].key, "serial") == 0)
            json_object_set_new(o, p->options[i].key, json_string(p->options[i].value));
    }
    return o;
}

json_t *report_info(const struct machine *m)
{
    const struct config *c = m->config;
    json_t *devices = json_array();
    for (unsigned i = 0; i < m->plan.n; i++)
        json_array_append_new(devices, device(&m->devices[i]));
    json_t *o = json_pack("{s:s, s:s, s:i, s:I, s:i, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "name",
                          c->name, "state", machine_state_name(m), "pid", (int)getpid(), "memory",
                          (json_int_t)c->memory, "cpus", (int)c->cpus, "mmu", c->mmu, "engine", c->engine,
                          "clock", c->clock, "timing", c->timing, "seed", (json_int_t)c->seed, "uptime_ms",
                          (json_int_t)((uv_hrtime() - m->started_ns) / 1000000), "processes", processes(m),
                          "devices", devices);
    json_object_set_new(o, "record", record_report(m));
    if (m->state == MACHINE_PAUSED)
        json_object_set_new(o, "why", json_string(m->paused_why));
    return o;
}

/* Whether it gave up system calls. */
static bool is_confined(pid_t pid)
{
    char path[64], line[256];
    int mode = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "Seccomp: %d", &mode) != 1)
        ;
    if (f)
        fclose(f);
    return mode == 2;
}

/* CPU time in ms, proportional memory in KiB, and the sandbox; a process that is gone has none. */
static void add_usage(json_t *process_object)
{
    pid_t pid = (pid_t)json_integer_value(json_object_get(process_object, "pid"));
    char path[64], line[1024];
    unsigned long user = 0, system = 0, pss = 0;
    if (pid <= 0)
        return;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof(line), f)) {
        const char *end = strrchr(line, ')');
        if (end)
            sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    }
    if (f)
        fclose(f);
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Pss: %lu", &pss) == 1)
            break;
    }
    if (f)
        fclose(f);
    unsigned long hz = (unsigned long)sysconf(_SC_CLK_TCK);
    json_object_set_new(process_object, "cpu_ms", json_integer((json_int_t)((user + system) * 1000 / hz)));
    json_object_set_new(process_object, "pss_kib", json_integer((json_int_t)pss));
    json_object_set_new(process_object, "sandbox", json_boolean(is_confined(pid)));
}

json_t *report_stats(const struct machine *m, const char *vcpu_json)
{
    json_t *list = processes(m), *vcpu = json_loads(vcpu_json, 0, NULL), *one;
    size_t i;
    json_array_foreach(list, i, one)
    {
        add_usage(one);
    }
    json_t *record = record_report(m);
    json_object_update(record, json_object_get(vcpu, "recording"));
    json_object_del(vcpu, "recording");
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", m->config->name, "state", machine_state_name(m),
                     "vcpu", vcpu ? vcpu : json_object(), "record", record, "processes", list);
}

json_t *report_result(const struct machine *m)
{
    const struct machine_result *r = &m->result;
    json_t *o = json_pack("{s:s, s:i, s:s, s:b}", "event", "exit", "status", r->status, "why", r->why,
                          "from_guest", (int)r->from_guest);
    if (r->exited) {
        char hex[20];
        snprintf(hex, sizeof(hex), "%016" PRIx64, r->hash);
        json_object_set_new(o, "icount", json_integer((json_int_t)r->icount));
        json_object_set_new(o, "hash", json_string(hex));
        json_object_set_new(o, "guest_status", json_integer((json_int_t)r->guest_status));
    }
    if (r->failure.text[0])
        json_object_set_new(o, "error", json_string(r->failure.text));
    if (r->failure.hint[0])
        json_object_set_new(o, "hint", json_string(r->failure.hint));
    return o;
}
