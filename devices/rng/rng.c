/* cleave-rng: virtio-rng (Virtual I/O Device 1.2, section 5.4). The bytes of a request are a function of the
 * machine's seed, the device and the request's sequence number, so a request served again after a crash gives
 * the same ones. */
#include "devices/common/device.h"
#include "devices/rng/chacha20.h"

enum {
    VIRTIO_ID_RNG = 4,
    SLOTS = 64,
    MAX_BYTES = 1 << 20,
};

struct rng {
    uint8_t key[32];
};

static void store64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static int configure(struct device *d, struct device_description *desc)
{
    struct rng *r = device_data(d);
    store64(r->key, device_seed(d));
    desc->virtio_id = VIRTIO_ID_RNG;
    desc->geometry = (struct channel_geometry){
        .nqueues = 1,
        .queue[0] = {.kind = CHANNEL_REQUESTS,
                     .slots = SLOTS,
                     .max_response = MAX_BYTES,
                     .response_bytes = MAX_BYTES},
    };
    desc->closed = true;
    desc->backend = "chacha20";
    desc->latency = (struct latency_model){
        .nrules = 1, .rule[0] = {.base_ns = 10000, .bandwidth = 16 << 20, .jitter_ns = 1000}};
    return 0;
}

static void request(struct device *d, struct request *q)
{
    const struct rng *r = device_data(d);
    uint8_t nonce[12] = {0};
    store64(nonce, q->seq);
    chacha20_stream(r->key, nonce, 0, q->out, q->out_cap);
    device_complete(d, q, q->out_cap);
}

static const struct device_ops rng_ops = {
    .kind = "rng",
    .size = sizeof(struct rng),
    .configure = configure,
    .request = request,
};

int main(int argc, char **argv)
{
    return device_main(argc, argv, &rng_ops);
}
