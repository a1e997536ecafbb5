/* Option values, configuration files, and the checks of the merged configuration. */
#include "tools/supervisor/config.h"
#include "tools/supervisor/host.h"
#include "tools/supervisor/spec.h"
#include "tools/supervisor/verbs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct failure f;

static void test_sizes(void **state)
{
    uint64_t v;
    assert_int_equal(spec_size("512M", &v), 0);
    assert_int_equal(v, 512u << 20);
    assert_int_equal(spec_size("1GiB", &v), 0);
    assert_int_equal(v, 1u << 30);
    assert_int_equal(spec_size("0x1000", &v), 0);
    assert_int_equal(v, 4096);
    assert_int_equal(spec_size("", &v), -EINVAL);
    assert_int_equal(spec_size("-1", &v), -EINVAL);
    assert_int_equal(spec_size("1X", &v), -EINVAL);
    assert_int_equal(spec_size("1Mb", &v), -EINVAL);
    assert_int_equal(spec_size("99999999999999999999", &v), -ERANGE);
    assert_int_equal(spec_size("99999999T", &v), -ERANGE);
    assert_int_equal(spec_number("12x", &v), -EINVAL);
}

static void test_lists(void **state)
{
    struct spec s;
    assert_int_equal(spec_parse("a,,b=c.img,ro,id=x=y", "path", &s), 0);
    assert_int_equal(s.n, 3);
    assert_string_equal(s.field[0].key, "path");
    assert_string_equal(s.field[0].value, "a,b=c.img");
    assert_string_equal(s.field[1].key, "ro");
    assert_null(s.field[1].value);
    assert_string_equal(s.field[2].value, "x=y");
    spec_release(&s);
    assert_int_equal(spec_parse("a,,,", "path", &s), -EINVAL);
    assert_int_equal(spec_parse("", "path", &s), -EINVAL);
}

static void test_words(void **state)
{
    assert_true(spec_is_name("vm-1.a_b", 64));
    assert_false(spec_is_name("", 64));
    assert_false(spec_is_name("../x", 64));
    assert_false(spec_is_name(".x", 64));
    assert_false(spec_is_name("abc", 2));
    assert_true(spec_is_mac("52:54:00:12:34:56"));
    assert_false(spec_is_mac("01:54:00:12:34:56"));
    assert_false(spec_is_mac("52:54:00:12:34"));
    assert_false(spec_is_mac("52:54:00:12:34:56:78"));
    assert_true(spec_is_hostfwd("tcp::2222-:22"));
    assert_true(spec_is_hostfwd("udp:127.0.0.1:53-10.0.2.15:53"));
    assert_false(spec_is_hostfwd("tcp::0-:22"));
    assert_false(spec_is_hostfwd("tcp::2222-:70000"));
    assert_false(spec_is_hostfwd("sctp::1-:1"));
    assert_false(spec_is_hostfwd("tcp:host:1-:1"));
    assert_false(spec_is_hostfwd("tcp::2222"));
}

/* Configuration of `run` with these words; 0 or negative errno, failure in `f`. */
static int load(struct config *c, char **argv)
{
    static struct invocation in;
    int argc = 0;
    while (argv[argc])
        argc++;
    memset(&f, 0, sizeof(f));
    int err = options_parse(verb_find("run"), argc, argv, &in, &f);
    return err ? err : config_load(&in, c, &f);
}

static void test_defaults(void **state)
{
    struct config c;
    assert_int_equal(load(&c, (char *[]){"--kernel", "Image", "--disk", "a", "--disk", "b,ro,id=root",
                                         "--net", "user", "--clock", "virtual", "--input", "keyboard", NULL}),
                     0);
    assert_int_equal(c.memory, 1u << 30);
    assert_int_equal(c.cpus, 1);
    assert_int_equal(c.seed, 0);
    assert_string_equal(c.timing, "fixed");
    assert_string_equal(c.mmu, "sv48");
    assert_string_equal(c.engine, host_translator_lacks() ? "interp" : "jit");
    assert_string_equal(c.disks[0].id, "vda");
    assert_string_equal(c.disks[1].id, "root");
    assert_true(c.disks[1].ro);
    assert_true(strlen(c.disks[0].serial) <= 20);
    assert_string_not_equal(c.disks[0].serial, c.disks[1].serial);
    assert_true(spec_is_mac(c.nets[0].mac));
    assert_string_equal(c.serials[0].backend, "stdio");
    assert_string_equal(c.inputs[0].id, "keyboard0");
    assert_true(c.rng);
    config_release(&c);
}

static void test_derived_from_seed(void **state)
{
    struct config a, b;
    assert_int_equal(load(&a, (char *[]){"--bios", "x", "--net", "echo", "--seed", "7", NULL}), 0);
    assert_int_equal(load(&b, (char *[]){"--bios", "x", "--net", "echo", "--seed", "7", NULL}), 0);
    assert_string_equal(a.nets[0].mac, b.nets[0].mac);
    config_release(&b);
    assert_int_equal(load(&b, (char *[]){"--bios", "x", "--net", "echo", "--seed", "8", NULL}), 0);
    assert_string_not_equal(a.nets[0].mac, b.nets[0].mac);
    config_release(&a);
    config_release(&b);
}

static const struct {
    const char *text;
    char *argv[12];
} refusals[] = {
    {"nothing to boot", {"--memory", "1G"}},
    {"nothing to boot", {"--bios", "none"}},
    {"initrd: needs a kernel", {"--bios", "x", "--initrd", "i"}},
    {"append: needs a kernel", {"--bios", "x", "--append", "i"}},
    {"a machine needs memory", {"--bios", "x", "--memory", "0"}},
    {"outside of 16M to 64G", {"--bios", "x", "--memory", "1M"}},
    {"outside of 16M to 64G", {"--bios", "x", "--memory", "65G"}},
    {"not a multiple of 4K", {"--bios", "x", "--memory", "16777217"}},
    {"not a size", {"--bios", "x", "--memory", "lots"}},
    {"not a size", {"--bios", "x", "--memory", "-1G"}},
    {"1 to 8 harts", {"--bios", "x", "--cpus", "0"}},
    {"1 to 8 harts", {"--bios", "x", "--cpus", "9"}},
    {"1 to 8 harts", {"--bios", "x", "--cpus", "4294967297"}},
    {"not a number", {"--bios", "x", "--cpus", "many"}},
    {"needs fixed timing", {"--bios", "x", "--clock", "virtual", "--timing", "live"}},
    {"two devices are called 'a'", {"--bios", "x", "--disk", "d,id=a", "--net", "echo,id=a"}},
    {"two devices are called 'rng0'", {"--bios", "x", "--disk", "d,id=rng0"}},
    {"exclude each other", {"--bios", "x", "--disk", "d,ro,overlay"}},
    {"unknown key 'wr'", {"--bios", "x", "--disk", "d,wr"}},
    {"takes no value", {"--bios", "x", "--disk", "d,ro=1"}},
    {"needs a value", {"--bios", "x", "--disk", "d,id"}},
    {"given twice", {"--bios", "x", "--disk", "d,id=a,id=b"}},
    {"longer than 20 bytes", {"--bios", "x", "--disk", "d,serial=123456789012345678901"}},
    {"not a name", {"--bios", "x", "--disk", "d,id=a/b"}},
    {"disk 'vda': latency, bandwidth and jitter need", {"--bios", "x", "--disk", "d,latency=1us"}},
    {"latency: '1m' is not", {"--bios", "x", "--timing", "fixed", "--disk", "d,latency=1m"}},
    {"latency: '61s' is not", {"--bios", "x", "--timing", "fixed", "--disk", "d,latency=61s"}},
    {"latency: '99999999999999999999s'",
     {"--bios", "x", "--timing", "fixed", "--disk", "d,latency=99999999999999999999s"}},
    {"jitter: '-1' is not", {"--bios", "x", "--timing", "fixed", "--net", "echo,jitter=-1"}},
    {"bandwidth: '1023' is not", {"--bios", "x", "--timing", "fixed", "--serial", "null,bandwidth=1023"}},
    {"not one of user, stream, tap, echo", {"--bios", "x", "--net", "bridge"}},
    {"stream needs a path", {"--bios", "x", "--net", "stream"}},
    {"tap needs an ifname", {"--bios", "x", "--net", "tap"}},
    {"belongs to the user back-end", {"--bios", "x", "--net", "echo,hostfwd=tcp::1-:1"}},
    {"is not tcp:", {"--bios", "x", "--net", "user,hostfwd=tcp:1:1"}},
    {"is that of 'net0' too",
     {"--bios", "x", "--net", "echo,mac=52:54:00:00:00:01", "--net", "echo,mac=52:54:00:00:00:01"}},
    {"not a unicast address", {"--bios", "x", "--net", "echo,mac=ff:ff:ff:ff:ff:ff"}},
    {"unix needs a path", {"--bios", "x", "--serial", "unix"}},
    {"null takes no path", {"--bios", "x", "--serial", "null:x"}},
    {"has stdio already", {"--bios", "x", "--serial", "stdio", "--serial", "stdio"}},
    {"not one of keyboard, pointer", {"--bios", "x", "--input", "joystick"}},
    {"first serial port must be stdio", {"--kernel", "x", "--batch", "b", "--serial", "null"}},
    {"batch: needs a kernel", {"--bios", "x", "--batch", "b"}},
    {"name: 'a/b' is not a name", {"--bios", "x", "--name", "a/b"}},
    {"seed: larger", {"--bios", "x", "--seed", "9223372036854775808"}},
    {"--hash-at: 'x'", {"--bios", "x", "--hash-at", "x"}},
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct config c;
        int err = load(&c, (char **)refusals[i].argv);
        if (err >= 0 || !strstr(f.text, refusals[i].text))
            fail_msg("expected '%s', got %d '%s'", refusals[i].text, err, f.text);
        assert_int_equal(f.status, STATUS_USAGE);
    }
}

static char path[] = "/tmp/cleave-test-XXXXXX";

static int write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    return fclose(file);
}

static const char complete_file[] = "name: box\n"
                                    "kernel: Image\n"
                                    "bios: none\n"
                                    "append: \"root=/dev/vda, ro\"\n"
                                    "memory: 512M\n"
                                    "cpus: 4\n"
                                    "clock: virtual\n"
                                    "rng: false\n"
                                    "hash-at: [1, 2]\n"
                                    "disks:\n"
                                    "  - {path: root.img, id: vda, overlay: temporary}\n"
                                    "  - {path: /b.img, ro: yes}\n"
                                    "nets:\n"
                                    "  - {backend: user, hostfwd: [\"tcp::2222-:22\", \"tcp::8080-:80\"]}\n"
                                    "serials: [{backend: unix, path: /tmp/x}]\n"
                                    "inputs: [{type: keyboard}]\n";

static void check_complete(const struct config *c)
{
    assert_string_equal(c->name, "box");
    assert_string_equal(c->kernel, "/tmp/Image");
    assert_string_equal(c->bios, "none");
    assert_string_equal(c->append, "root=/dev/vda, ro");
    assert_int_equal(c->memory, 512u << 20);
    assert_int_equal(c->nhash_at, 2);
    assert_false(c->rng);
    assert_int_equal(c->ndisks, 2);
    assert_string_equal(c->disks[0].path, "/tmp/root.img");
    assert_true(c->disks[0].overlay);
    assert_null(c->disks[0].overlay_path);
    assert_string_equal(c->disks[1].path, "/b.img");
    assert_true(c->disks[1].ro);
    assert_int_equal(c->nets[0].nhostfwd, 2);
    assert_string_equal(c->serials[0].path, "/tmp/x");
}

static void test_file(void **state)
{
    struct config c;
    write_file(complete_file);
    assert_int_equal(load(&c, (char *[]){path, NULL}), 0);
    check_complete(&c);
    assert_int_equal(c.cpus, 4);
    config_release(&c);
}

static void test_flags_override(void **state)
{
    struct config c;
    write_file(complete_file);
    assert_int_equal(load(&c, (char *[]){path, "--cpus", "2", "--disk", "c.img", "--rng", "on", NULL}), 0);
    assert_int_equal(c.cpus, 2);
    assert_int_equal(c.ndisks, 1);
    assert_string_equal(c.disks[0].path, "c.img");
    assert_int_equal(c.nnets, 1);
    assert_true(c.rng);
    config_release(&c);
}

static void test_json_file(void **state)
{
    struct config c;
    write_file("{\"bios\": \"/x\", \"memory\": \"64M\", \"disks\": [{\"path\": \"a\"}]}");
    assert_int_equal(load(&c, (char *[]){path, NULL}), 0);
    assert_int_equal(c.memory, 64u << 20);
    config_release(&c);
}

static const struct {
    const char *text, *expect;
} bad_files[] = {
    {"bios: x\nmemroy: 1G\n", ":2:1: unknown key 'memroy'"},
    {"bios: x\nnets:\n  - {backend: echo, mtu: 1}\n", ":3:21: unknown key 'mtu'"},
    {"bios: x\ncpus: many\n", ":2:7: cpus: 'many' is not a number"},
    {"bios: x\ncpus: -1\n", ":2:7: cpus: '-1' is not a number in range"},
    {"bios: x\ncpus: 0\n", "cpus: a machine needs at least 1"},
    {"bios: x\ncpus: 9\n", "cpus: 9: a machine has 1 to 8 harts"},
    {"bios: x\nmemory: 0\n", "memory: a machine needs memory"},
    {"bios: x\nmemory: lots\n", "memory: 'lots' is not a size"},
    {"bios: x\ncode-cache: all\n", "code-cache: 'all' is not a size"},
    {"bios: x\ncode-cache: 1M\n", "code-cache: 1048576 bytes are outside of 2M to 1G"},
    {"bios: x\ncode-cache: 2G\n", "code-cache: 2147483648 bytes are outside of 2M to 1G"},
    {"bios: x\nrng: maybe\n", ":2:6: rng: 'maybe' is neither true nor false"},
    {"bios: x\nbios: y\n", ":2:1: duplicate key 'bios'"},
    {"bios: x\ndisks:\n  - path: a\n    path: b\n", ":4:5: duplicate key 'path'"},
    {"bios: x\ndisks: a.img\n", ":2:8: disks: a list is expected"},
    {"bios: {x: y}\n", ":1:7: bios: a single value is expected"},
    {"bios: x\ndisks: [{id: a}]\n", "the key 'path' is missing"},
    {"bios: x\ndisks: [{path: a, id: b}, {path: c, id: b}]\n", "two devices are called 'b'"},
    {"bios: \"x\n", "found unexpected end of stream"},
    {"- a\n", "keys with values are expected"},
    {"", "the configuration is empty"},
    {"bios: &a x\nkernel: *a\n", "alias"},
    {"bios: x\nclock: sundial\n", "'sundial' is not one of host, virtual"},
};

static void test_bad_files(void **state)
{
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        struct config c;
        write_file(bad_files[i].text);
        int err = load(&c, (char *[]){path, NULL});
        if (err >= 0 || !strcasestr(f.text, bad_files[i].expect))
            fail_msg("'%s': expected '%s', got %d '%s'", bad_files[i].text, bad_files[i].expect, err, f.text);
        assert_int_equal(f.status, STATUS_USAGE);
    }
}

static int make_file(void **state)
{
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),     cmocka_unit_test(test_lists),
        cmocka_unit_test(test_words),     cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_derived_from_seed),
        cmocka_unit_test(test_file),      cmocka_unit_test(test_flags_override),
        cmocka_unit_test(test_json_file), cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
