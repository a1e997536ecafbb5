/* The one place that lists verbs and options: parsing, help, man pages and completion all read these tables.
 */
#include "tools/supervisor/verbs.h"

#include "tools/trace/trace.h"
#include "tools/trace/verb.h"

#include <stdio.h>
#include <string.h>

static const char code_cache_help[] =
    "memory for translated code, 2M to 1G (default: 48M); tables take six tenths of it besides";
static const char log_help[] = "tell what happens inside: jit for each block that is translated or dropped";
static const char perf_map_help[] =
    "write /tmp/perf-PID.map, by which 'perf report' names translated code of the vcpu process";

static const char sandbox_help[] =
    "the processes of the machine give up the system calls that they do not need: as far as the host can, "
    "not at all (for sanitizers and debuggers), or else fail (default: $CLEAVE_SANDBOX, else on)";

static const struct option_row run_options[] = {
    {"name", OPTION_STRING, "NAME", COMPLETES_NOTHING, NULL,
     "name of the machine in other commands (default: vm-PID)"},
    {"kernel", OPTION_STRING, "FILE", COMPLETES_FILE, NULL,
     "kernel: an Image, plain or gzip-compressed, or an ELF file; entered in supervisor mode by the "
     "firmware"},
    {"bios", OPTION_STRING, "FILE", COMPLETES_FILE, NULL,
     "firmware entered in machine mode, or 'none' (default: the system's OpenSBI)"},
    {"initrd", OPTION_STRING, "FILE", COMPLETES_FILE, NULL, "initial RAM disk"},
    {"append", OPTION_STRING, "WORDS", COMPLETES_NOTHING, NULL, "kernel command line"},
    {"memory", OPTION_STRING, "SIZE", COMPLETES_NOTHING, NULL, "RAM, 16M to 64G (default: 1G)"},
    {"cpus", OPTION_STRING, "N", COMPLETES_NOTHING, NULL, "harts, 1 to 8 (default: 1)"},
    {"mmu", OPTION_STRING, "MODE", COMPLETES_CHOICE, "sv39|sv48|sv57", "largest paging mode (default: sv48)"},
    {"disk", OPTION_LIST, "FILE[,KEY…]", COMPLETES_FILE, NULL,
     "disk with a raw image or a block device; keys: ro, overlay[=FILE] (writes go to FILE or to a temporary "
     "file, the image is "
     "never written), id=ID, serial=TEXT, and in fixed timing latency=TIME, bandwidth=SIZE (a second), "
     "jitter=TIME; ',,' is a comma in FILE"},
    {"net", OPTION_LIST, "BACKEND[,KEY…]", COMPLETES_NOTHING, NULL,
     "network card: user[,hostfwd=tcp:[ADDR]:PORT-[ADDR]:PORT]…, stream,path=SOCKET[,listen], "
     "tap,ifname=NAME or echo; keys of "
     "all: id=ID, mac=ADDRESS, pcap=FILE, and latency, bandwidth, jitter as for disks"},
    {"serial", OPTION_LIST, "BACKEND[,KEY…]", COMPLETES_NOTHING, NULL,
     "serial port: stdio, pty, unix:SOCKET, file:FILE or null; the first is the UART (default: stdio), "
     "further ones are "
     "virtio consoles; keys: id=ID, and latency, bandwidth, jitter as for disks"},
    {"input", OPTION_LIST, "TYPE[,KEY…]", COMPLETES_NOTHING, NULL,
     "input device: keyboard or pointer; keys: id=ID, script=FILE (events at virtual times)"},
    {"rng", OPTION_STRING, "on|off", COMPLETES_CHOICE, "on|off",
     "entropy device, seeded by --seed (default: on)"},
    {"batch", OPTION_STRING, "FILE", COMPLETES_FILE, NULL,
     "run the script FILE in the demo guest, pass its output through and exit with its status"},
    {"engine", OPTION_STRING, "ENGINE", COMPLETES_CHOICE, "auto|jit|interp",
     "execution engine: the translator, the interpreter, or auto: the translator where the host can "
     "(default: auto)"},
    {"code-cache", OPTION_STRING, "SIZE", COMPLETES_NOTHING, NULL, code_cache_help},
    {"log", OPTION_STRING, "WHAT", COMPLETES_CHOICE, "jit", log_help},
    {"count-blocks", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL,
     "count how often each block of translated code is executed, for 'cleave trace-blocks --top' (slower)"},
    {"perf-map", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, perf_map_help},
    {"clock", OPTION_STRING, "CLOCK", COMPLETES_CHOICE, "host|virtual",
     "guest time follows the host's clock, or counts 1 ns a step (default: host)"},
    {"timing", OPTION_STRING, "TIMING", COMPLETES_CHOICE, "live|fixed",
     "device answers arrive when they are there, or after a fixed virtual time (default: live; fixed with "
     "--clock virtual)"},
    {"sandbox", OPTION_STRING, "CHOICE", COMPLETES_CHOICE, "on|off|require", sandbox_help},
    {"seed", OPTION_STRING, "N", COMPLETES_NOTHING, NULL,
     "seed of everything random in the machine (default: random; 0 with --clock virtual)"},
    {"record", OPTION_STRING, "TRACE", COMPLETES_FILE, NULL,
     "record the run to this file, for 'cleave replay' (default: a file in the state directory, of which the "
     "last 8 of a "
     "machine's name are kept, 4 GiB altogether)"},
    {"no-record", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "record nothing"},
    {"record-limit", OPTION_STRING, "SIZE", COMPLETES_NOTHING, NULL,
     "the recording ends, and the machine goes on, when the trace has this size (default: 1G)"},
    {"self-contained", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL,
     "put what the machine is started from into the trace, so that it replays anywhere"},
    {"record-require", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL,
     "pause the machine when the recording cannot go on"},
    {"hash-at", OPTION_LIST, "ICOUNT", COMPLETES_NOTHING, NULL, "report the state hash at this position"},
    {"hash-every", OPTION_STRING, "N", COMPLETES_NOTHING, NULL, "report the state hash every N steps"},
    {"hash-at-exit", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "report the state hash at the end"},
    {"stop-at", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL, "stop the machine at this position"},
    {"no-tlb", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL,
     "walk the page tables at every access (slow; an oracle for tests)"},
    {0},
};

static const struct option_row replay_options[] = {
    {"until", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL, "stop at this position"},
    {"speed", OPTION_STRING, "SPEED", COMPLETES_CHOICE, "max|realtime",
     "as fast as possible with idle time left out, or as it was (default: max)"},
    {"engine", OPTION_STRING, "ENGINE", COMPLETES_CHOICE, "auto|jit|interp",
     "execution engine, whatever the recording used (default: auto)"},
    {"code-cache", OPTION_STRING, "SIZE", COMPLETES_NOTHING, NULL, code_cache_help},
    {"log", OPTION_STRING, "WHAT", COMPLETES_CHOICE, "jit", log_help},
    {"perf-map", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, perf_map_help},
    {"sandbox", OPTION_STRING, "CHOICE", COMPLETES_CHOICE, "on|off|require", sandbox_help},
    {"follow", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "go on while the trace is being written"},
    {"serial", OPTION_STRING, "ID", COMPLETES_NOTHING, NULL,
     "show the output of this serial port (default: the first)"},
    {"device", OPTION_STRING, "ID", COMPLETES_NOTHING, NULL,
     "give the recorded requests to a real process of this device alone, and compare its answers"},
    {"wrap", OPTION_STRING, "COMMAND", COMPLETES_NOTHING, NULL,
     "with --device: run the process under this command, such as 'valgrind' or 'gdb --args'"},
    {"image", OPTION_LIST, "ID=FILE", COMPLETES_FILE, NULL,
     "where a file of the trace is now; ID is its role as 'cleave trace info' shows it, or what follows the "
     "colon"},
    {"hash-at", OPTION_LIST, "ICOUNT", COMPLETES_NOTHING, NULL, "report the state hash at this position"},
    {"hash-every", OPTION_STRING, "N", COMPLETES_NOTHING, NULL, "report the state hash every N steps"},
    {"hash-at-exit", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "report the state hash at the end"},
    {0},
};

static const struct option_row trace_bisect_options[] = {
    {"from", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL,
     "the engines are known to agree here (default: 0)"},
    {"until", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL, "look no further (default: the end)"},
    {"image", OPTION_LIST, "ID=FILE", COMPLETES_FILE, NULL, "where a file of the trace is now"},
    {0},
};

static const struct option_row no_options[] = {{0}};

static const struct option_row stop_options[] = {
    {"timeout", OPTION_STRING, "SECONDS", COMPLETES_NOTHING, NULL,
     "wait this long for the end (default: 15)"},
    {"force", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "kill the processes at once, as 'cleave kill'"},
    {0},
};

static const struct option_row stats_options[] = {
    {"watch", OPTION_STRING, "SECONDS", COMPLETES_NOTHING, NULL, "repeat until interrupted"},
    {0},
};

static const struct option_row device_options[] = {
    {"device", OPTION_STRING, "ID", COMPLETES_NOTHING, NULL, "the device (default: the first that fits)"},
    {0},
};

static const char image_help[] =
    "where a file of the trace is now; ID is its role as 'cleave trace info' shows it, or what follows the "
    "colon of that";

static const struct option_row trace_dump_options[] = {
    {"device", OPTION_LIST, "ID", COMPLETES_NOTHING, NULL,
     "only crossings of this device; 'machine' for those of the machine itself"},
    {"kind", OPTION_LIST, "KIND", COMPLETES_CHOICE, TRACE_KIND_NAMES, "only records of this kind"},
    {"from", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL, "from this position on"},
    {"until", OPTION_STRING, "ICOUNT", COMPLETES_NOTHING, NULL, "up to this position, and what is at it"},
    {"bodies", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "with the bodies that the trace keeps, in base64"},
    {"image", OPTION_LIST, "ID=FILE", COMPLETES_FILE, NULL, image_help},
    {0},
};

static const struct option_row trace_image_options[] = {
    {"image", OPTION_LIST, "ID=FILE", COMPLETES_FILE, NULL, image_help},
    {0},
};

static const struct option_row trace_export_options[] = {
    {"format", OPTION_STRING, "FORMAT", COMPLETES_CHOICE, "chrome|pcap|asciicast",
     "what to write (default: by the ending of OUTPUT: .json, .pcap or .cast)"},
    {"device", OPTION_STRING, "ID", COMPLETES_NOTHING, NULL,
     "the network card or serial port that it is about (default: the first)"},
    {"image", OPTION_LIST, "ID=FILE", COMPLETES_FILE, NULL, image_help},
    {0},
};

static const struct option_row trace_blocks_options[] = {
    {"pc", OPTION_STRING, "ADDRESS", COMPLETES_NOTHING, NULL,
     "the blocks with an instruction at this address, virtual or physical"},
    {"last", OPTION_STRING, "N", COMPLETES_NOTHING, NULL, "the N blocks translated last (default: 10)"},
    {"top", OPTION_STRING, "N", COMPLETES_NOTHING, NULL,
     "the N blocks in which the most instructions were executed, the first one first; for a machine that "
     "runs with "
     "--count-blocks"},
    {"stubs", OPTION_FLAG, NULL, COMPLETES_NOTHING, NULL, "with the code out of line"},
    {0},
};

#define MAX_WORDS 60

const struct verb verbs[] = {
    {"run", "[CONFIG]", 0, 1, COMPLETES_FILE, NULL, "run a machine in the foreground",
     "Starts a machine and attaches its first serial port to the terminal. CONFIG is a YAML or JSON file; "
     "its keys are those of the "
     "options, with the lists disks, nets, serials and inputs, and flags override it: a repeated flag "
     "replaces the file's whole list. "
     "Paths in the file are relative to the file.\n\n"
     "In the terminal, Ctrl-A x stops the machine, Ctrl-A ? shows help, Ctrl-A Ctrl-A sends one Ctrl-A. The "
     "end of input on stdin is "
     "not the end of the machine.\n\n"
     "The status is 0 after a power-off by the guest, 1 when the guest failed or the machine cannot start, 2 "
     "for a usage error, 125 for "
     "a failure of the emulator. With --batch it is that of the script, and any failure of cleave is 125.",
     run_options, verb_run, false},
    {"replay", "TRACE", 1, 1, COMPLETES_FILE, NULL, "run a recorded machine again",
     "The machine of the trace goes through the same states, with no device, no disk and no network; its "
     "console "
     "is shown. All that it sends, and its state wherever the trace has a hash of it, is compared with the "
     "recording: at the first difference the replay stops, tells what it is, and ends with status 6. A trace "
     "whose writer was killed is replayed to where it ends.",
     replay_options, verb_replay, false},
    {"ps", "", 0, 0, COMPLETES_NOTHING, NULL, "list running machines and their processes", "", no_options,
     verb_ps, false},
    {"info", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "show a machine's configuration and state", "",
     no_options, verb_info, false},
    {"stats", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "show a machine's counters and resource usage", "",
     stats_options, verb_stats, false},
    {"stop", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "stop a machine cleanly",
     "The machine stops between two steps, its devices finish what they have accepted and flush. The guest "
     "is not told: to shut it "
     "down, use its own commands.",
     stop_options, verb_stop, false},
    {"kill", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "kill a machine's processes", "", no_options,
     verb_kill, false},
    {"pause", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "pause a machine", "", no_options, verb_pause, false},
    {"resume", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "resume a paused machine", "", no_options,
     verb_resume, false},
    {"console", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL, "attach the terminal to a serial port",
     "Output of the port is shown here as well as on its own back-end, and input is merged. Ctrl-A x "
     "detaches.",
     device_options, verb_console, false},
    {"input", "MACHINE key|text|pointer WORD…", 3, MAX_WORDS, COMPLETES_MACHINE, NULL,
     "send events to a machine's input devices",
     "key NAME…: each NAME is a chord such as a, enter or ctrl-alt-delete.\n\n"
     "text STRING…: types the strings, separated by spaces, on a US layout.\n\n"
     "pointer X Y [BUTTONS]: moves to X, Y (0 to 32767) and sets the buttons: 1 left, 2 right, 4 middle, "
     "added up.",
     device_options, verb_input, false},
    {"trace list", "", 0, 0, COMPLETES_NOTHING, NULL, "list the recordings in the state directory",
     "The newest first, with how and at which step each ended.", no_options, verb_trace_list, false},
    {"trace info", "TRACE", 1, 1, COMPLETES_FILE, NULL, "show what a trace is of and what is in it",
     "A trace is the recording of a run: everything that came into the machine. Shown are the machine, the "
     "files that a replay needs and whether they are here (in the content store or at their path), how and "
     "where "
     "the recording ended, and the crossings of each device: their number, the bytes of their bodies, and "
     "how "
     "many of those are in the trace.",
     no_options, verb_trace_info, false},
    {"trace dump", "TRACE", 1, 1, COMPLETES_FILE, NULL, "print a trace's records as JSON lines",
     "One object a line, in the order of the recording. icount is the number of steps that the machine had "
     "completed; a record belongs before the next one.",
     trace_dump_options, verb_trace_dump, false},
    {"trace verify", "TRACE", 1, 1, COMPLETES_FILE, NULL, "check that a trace is sound",
     "Reads every block and follows every reference, into the files as far as they are here. The status is 1 "
     "if something is damaged, and the message names the place. A trace whose writer was killed ends early "
     "and is sound.",
     trace_image_options, verb_trace_verify, false},
    {"trace pack", "TRACE OUTPUT", 2, 2, COMPLETES_FILE, NULL, "copy a trace so that it needs no other file",
     "The copy has what the machine was started from, and the data that was read of disk images, in it, and "
     "is "
     "compressed more strongly. It replays on any machine.",
     trace_image_options, verb_trace_pack, false},
    {"trace bisect", "TRACE", 1, 1, COMPLETES_FILE, NULL, "find where the two engines differ",
     "Replays the trace with both engines and narrows the first difference of their states to one step: "
     "shown are the "
     "instructions before it, the one that gave another result, and the registers that differ. The status is "
     "6 if there "
     "is a difference. Takes some dozens of replays.",
     trace_bisect_options, verb_trace_bisect, false},
    {"trace diff", "TRACE TRACE", 2, 2, COMPLETES_FILE, NULL, "find the first difference of two traces",
     "Compares all crossings in order, and state hashes where both traces have one, and shows the first that "
     "differs with its position. The status is 0 if there is none, 1 if there is one.",
     no_options, verb_trace_diff, false},
    {"trace export", "TRACE [OUTPUT]", 1, 2, COMPLETES_FILE, NULL, "write a trace in other programs' formats",
     "chrome: a timeline for Perfetto or chrome://tracing, with a track per device, a slice per request from "
     "its submission to its completion, and an instant for everything else. Times are virtual; each event "
     "has "
     "its position as icount.\n\n"
     "pcap: the traffic of a network card, for Wireshark. What the guest sent is kept as digests, and made "
     "again by a replay.\n\n"
     "asciicast: the output of a serial port, for asciinema.\n\n"
     "Without OUTPUT the result goes to stdout.",
     trace_export_options, verb_trace_export, false},
    {"trace-blocks", "MACHINE", 1, 1, COMPLETES_MACHINE, NULL,
     "show a machine's translated code beside the guest's",
     "Prints blocks of the translator's code memory, each instruction of the guest with what it became. The "
     "code of an instruction goes on up to the next one's; one that shows none is part of the next. What a "
     "block does rarely, such as a memory access that missed, is out of line, in its stubs.",
     trace_blocks_options, verb_trace_blocks, false},
    {"doctor", "[CONFIG]", 0, 1, COMPLETES_FILE, NULL, "check that this host can run machines",
     "One line a check, with a fix for what is wrong. With CONFIG, its files are checked too. The status is "
     "1 if a check failed.",
     no_options, verb_doctor, false},
    {"completion", "bash|zsh|fish", 1, 1, COMPLETES_CHOICE, "bash|zsh|fish",
     "print a completion script for a shell", "For bash: source <(cleave completion bash).", no_options,
     verb_completion, false},
    {"man", "[VERB]", 0, 2, COMPLETES_NOTHING, NULL, "print a manual page in man(7) format", "", no_options,
     verb_man, true},
    {0},
};

const unsigned nverbs = sizeof(verbs) / sizeof(verbs[0]) - 1;

const struct verb *verb_find(const char *name)
{
    for (unsigned i = 0; i < nverbs; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

bool verb_in_group(const struct verb *verb, const char *group)
{
    size_t n = strlen(group);
    return strncmp(verb->name, group, n) == 0 && verb->name[n] == ' ';
}

bool verb_is_group(const char *group)
{
    for (unsigned i = 0; i < nverbs; i++) {
        if (verb_in_group(&verbs[i], group))
            return true;
    }
    return false;
}

const struct verb *verb_of_words(int n, char *const *words, int *used)
{
    char name[64];
    *used = n > 1 && verb_is_group(words[0]) ? 2 : 1;
    if (n < 1 || snprintf(name, sizeof(name), "%s%s%s", words[0], *used == 2 ? " " : "",
                          *used == 2 ? words[1] : "") >= (int)sizeof(name))
        return NULL;
    return verb_find(name);
}
