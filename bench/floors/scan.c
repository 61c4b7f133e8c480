/* Floor of bench/scan.py: the newest best prices of every book of every venue, then each group by its highest bid and
 * lowest ask, pair by pair only where these cross. No instruments, no counters, no hit list.
 */
#include "floor.h"

typedef struct {
    int64_t venues, symbols, slots, passes;
    int64_t feed_words, book_off, ring_words, head_words, record_words;
    int64_t at_bid_count, at_ask_count, at_bid, at_ask;
} shape;

/* need: (symbol, buyer, seller). Returns the pairs of the last pass. */
int64_t scan(const int64_t *words, const shape *s, const double *need, double *restrict bids, double *restrict asks,
             int64_t *samples) {
    int64_t pairs = 0, n = s->venues;
    double *least = malloc((size_t)s->symbols * sizeof(double));
    for (int64_t g = 0; g < s->symbols; g++) {
        least[g] = 1e300;
        for (int64_t k = 0; k < n * n; k++) least[g] = need[g * n * n + k] < least[g] ? need[g * n * n + k] : least[g];
    }
    for (int64_t p = 0; p < s->passes; p++) {
        int64_t start = now_ns();
        for (int64_t v = 0; v < n; v++)
            for (int64_t g = 0; g < s->symbols; g++) {
                const int64_t *book = words + v * s->feed_words + s->book_off + g * s->ring_words;
                int64_t count = __atomic_load_n(book, __ATOMIC_ACQUIRE), seq;
                const int64_t *record = book + s->head_words + ((count - 1) & (s->slots - 1)) * s->record_words;
                do {
                    seq = __atomic_load_n(record, __ATOMIC_ACQUIRE);
                    bids[g * n + v] = record[s->at_bid_count] > 0 ? (double)record[s->at_bid] : -1.0;
                    asks[g * n + v] = record[s->at_ask_count] > 0 ? (double)record[s->at_ask] : 1e300;
                    __atomic_thread_fence(__ATOMIC_ACQUIRE);
                } while ((seq & 1) || __atomic_load_n(record, __ATOMIC_RELAXED) != seq);
            }
        pairs = 0;
        for (int64_t g = 0; g < s->symbols; g++) {
            const double *b = bids + g * n, *a = asks + g * n, *row = need + g * n * n;
            double high = b[0], low = a[0];
            for (int64_t k = 1; k < n; k++) {
                high = b[k] > high ? b[k] : high;
                low = a[k] < low ? a[k] : low;
            }
            if (high < low * least[g]) continue;
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < n; j++) pairs += b[j] >= a[i] * row[i * n + j];
        }
        samples[p] = now_ns() - start;
    }
    free(least);
    return pairs;
}
