/* Floor of bench/log.py: eight words a record, the clock among them, the first word last. Nobody reads, nothing is fenced. */
#include "floor.h"

int64_t log_store(int64_t *slots, int64_t capacity, int64_t per, int64_t batches, int64_t *samples) {
    int64_t tail = 0;
    for (int64_t b = 0; b < batches; b++) {
        int64_t start = now_ns();
        for (int64_t k = 0; k < per; k++) {
            int64_t *s = slots + 8 * (tail & (capacity - 1));
            s[1] = now_ns();
            s[2] = 77, s[3] = b, s[4] = k, s[5] = 3, s[6] = 4, s[7] = 5;
            __atomic_store_n(s, ++tail, __ATOMIC_RELEASE);
        }
        samples[b] = now_ns() - start;
    }
    return tail;
}
