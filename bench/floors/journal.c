/* Floor of bench/journal.py: bytes that are ready are stored into a mapped, preallocated file, 8-byte aligned, the first
 * word last. No encoding, no checksums, no chain, no rotation.
 */
#include "floor.h"

/* n records of ``length`` bytes to ``map``; samples ns each; returns the bytes used. */
int64_t journal_store(char *map, const char *record, int64_t length, int64_t n, int64_t *samples) {
    int64_t at = 0, step = (length + 7) & ~(int64_t)7, magic;
    memcpy(&magic, record, 8);
    for (int64_t k = 0; k < n; k++) {
        int64_t start = now_ns();
        memcpy(map + at + 8, record + 8, (size_t)length - 8);
        __atomic_store_n((int64_t *)(map + at), magic, __ATOMIC_RELEASE);
        samples[k] = now_ns() - start;
        at += step;
    }
    return at;
}
