/* Floor of bench/hop.py: a ring of 64-byte slots, each with its own sequence; both ends keep their place to themselves.
 *
 * It never looks whether the ring is full, keeps no cursor that others can read, and counts nothing.
 */
#include "floor.h"

#define SLOTS 64
#define WORDS 8

typedef struct { _Alignas(64) int64_t word[WORDS]; } slot;

static inline void put(slot *ring, int64_t index, const int64_t *payload) {
    slot *s = ring + (index & (SLOTS - 1));
    for (int k = 1; k < WORDS; k++) s->word[k] = payload[k];
    __atomic_store_n(&s->word[0], index + 1, __ATOMIC_RELEASE);
}

/* 1 got, 0 the deadline passed (looked at now and then). */
static inline int take(slot *ring, int64_t index, int64_t *out, int64_t deadline_ns, int64_t yield_after) {
    slot *s = ring + (index & (SLOTS - 1));
    for (int64_t empty = 1; __atomic_load_n(&s->word[0], __ATOMIC_ACQUIRE) != index + 1; empty++) {
        spin_pause();
        if (yield_after && empty % yield_after == 0) sched_yield();
        if ((empty & 1023) == 0 && now_ns() > deadline_ns) return 0;
    }
    for (int k = 1; k < WORDS; k++) out[k] = s->word[k];
    return 1;
}

/* n round trips; samples ns each; returns how many came back with every word right. */
int64_t hop_ping(slot *there, slot *back, int64_t n, int64_t *samples, int64_t deadline_ns, int64_t yield_after) {
    int64_t payload[WORDS], got[WORDS], right = 0;
    for (int64_t v = 0; v < n; v++) {
        for (int k = 1; k < WORDS; k++) payload[k] = v * k + 1;
        int64_t start = now_ns();
        put(there, v, payload);
        if (!take(back, v, got, deadline_ns, yield_after)) return right;
        samples[v] = now_ns() - start;
        int64_t wrong = 0;
        for (int k = 1; k < WORDS; k++) wrong |= got[k] ^ (v * k + 1);
        right += wrong == 0;
    }
    return right;
}

int64_t hop_pong(slot *there, slot *back, int64_t n, int64_t deadline_ns, int64_t yield_after) {
    int64_t got[WORDS];
    for (int64_t v = 0; v < n; v++) {
        if (!take(there, v, got, deadline_ns, yield_after)) return v;
        put(back, v, got);
    }
    return n;
}
