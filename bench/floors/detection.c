/* Floor of bench/detection.py: the newest best prices of a book under its sequence, then both directions against every
 * other venue of the group in floats, as the engine's screen does it. No notices, no counters, one group only.
 */
#include "floor.h"

typedef struct {
    int64_t venues, events, slots;            /* of the group; updates in all; records a book's ring holds */
    int64_t feed_words, book_off;             /* a feed's words; where its one book begins in them */
    int64_t head_words, record_words;
    int64_t at_bid_count, at_ask_count, at_bid, at_ask;
} shape;

static void publish(int64_t *words, const shape *s, int64_t venue, int64_t bid, int64_t ask) {
    int64_t *book = words + venue * s->feed_words + s->book_off;
    int64_t count = book[0];
    int64_t *record = book + s->head_words + (count & (s->slots - 1)) * s->record_words;
    __atomic_store_n(record, 2 * count + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    record[s->at_bid_count] = record[s->at_ask_count] = 1;
    record[s->at_bid] = bid;
    record[s->at_ask] = ask;
    __atomic_store_n(record, 2 * count + 2, __ATOMIC_RELEASE);
    __atomic_store_n(book, count + 1, __ATOMIC_RELEASE);
}

static inline int64_t check(const int64_t *words, const shape *s, int64_t venue, const double *need,
                            const double *need_t, double *restrict bids, double *restrict asks) {
    const int64_t *book = words + venue * s->feed_words + s->book_off;
    for (int tries = 0; tries < 64; tries++) {
        int64_t count = __atomic_load_n(book, __ATOMIC_ACQUIRE);
        if (count == 0) return 0;
        const int64_t *record = book + s->head_words + ((count - 1) & (s->slots - 1)) * s->record_words;
        int64_t seq = __atomic_load_n(record, __ATOMIC_ACQUIRE);
        if (seq & 1) continue;
        int64_t has_bid = record[s->at_bid_count] > 0, has_ask = record[s->at_ask_count] > 0;
        int64_t bid = record[s->at_bid], ask = record[s->at_ask];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(record, __ATOMIC_RELAXED) != seq) continue;
        bids[venue] = has_bid ? (double)bid : -1.0;
        asks[venue] = has_ask ? (double)ask : 1e300;
        break;
    }
    double own_bid = bids[venue], own_ask = asks[venue];
    const double *row = need + venue * s->venues, *row_t = need_t + venue * s->venues;
    int64_t hits = 0;
    for (int64_t k = 0; k < s->venues; k++)
        hits += (bids[k] >= own_ask * row[k]) + (own_bid >= asks[k] * row_t[k]);
    return hits;
}

/* Publishes one update of every venue, then times the check of them all; a sample a batch. prices: (bid, ask) pairs. */
int64_t detect(int64_t *words, const shape *s, const double *need, const double *need_t, double *bids, double *asks,
               const int64_t *prices, int64_t *samples) {
    int64_t hits = 0;
    for (int64_t at = 0, batch = 0; at < s->events; at += s->venues, batch++) {
        for (int64_t k = 0; k < s->venues; k++) publish(words, s, k, prices[2 * (at + k)], prices[2 * (at + k) + 1]);
        int64_t start = now_ns();
        for (int64_t k = 0; k < s->venues; k++) hits += check(words, s, k, need, need_t, bids, asks);
        samples[batch] = now_ns() - start;
    }
    return hits;
}

/* The same with the books written by another process: flags[0] asks for a batch, flags[8] says that it is there. */
static inline int wait_for(const int64_t *flag, int64_t value, int64_t deadline_ns, int64_t yield_after) {
    for (int64_t empty = 1; __atomic_load_n(flag, __ATOMIC_ACQUIRE) != value; empty++) {
        spin_pause();
        if (yield_after && empty % yield_after == 0) sched_yield();
        if ((empty & 1023) == 0 && now_ns() > deadline_ns) return 0;
    }
    return 1;
}

int64_t detect_write(int64_t *words, const shape *s, const int64_t *prices, int64_t *flags, int64_t deadline_ns,
                     int64_t yield_after) {
    int64_t batches = s->events / s->venues;
    for (int64_t batch = 0; batch < batches; batch++) {
        if (!wait_for(flags, batch + 1, deadline_ns, yield_after)) return batch;
        for (int64_t k = 0, at = batch * s->venues; k < s->venues; k++)
            publish(words, s, k, prices[2 * (at + k)], prices[2 * (at + k) + 1]);
        __atomic_store_n(flags + 8, batch + 1, __ATOMIC_RELEASE);
    }
    return batches;
}

/* Returns the batches checked; all hits in flags[1]. */
int64_t detect_read(int64_t *words, const shape *s, const double *need, const double *need_t, double *bids,
                    double *asks, int64_t *flags, int64_t *samples, int64_t deadline_ns, int64_t yield_after) {
    int64_t batches = s->events / s->venues, hits = 0;
    for (int64_t batch = 0; batch < batches; batch++) {
        __atomic_store_n(flags, batch + 1, __ATOMIC_RELEASE);
        if (!wait_for(flags + 8, batch + 1, deadline_ns, yield_after)) return batch;
        int64_t start = now_ns();
        for (int64_t k = 0; k < s->venues; k++) hits += check(words, s, k, need, need_t, bids, asks);
        samples[batch] = now_ns() - start;
    }
    flags[1] = hits;
    return batches;
}
