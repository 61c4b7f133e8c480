/* Floor A of bench/books.py: a parser of one byte at a time, one sorted array a side. */
#include "books_head.h"

#define ROOM 65536

typedef struct {
    head head;
    int64_t count[2];
    level side[2][ROOM]; /* worst first, best last */
} book;

static void clear(book *b) { b->count[0] = b->count[1] = 0; }

/* A decimal in fixed point; NULL where its digits do not fit. */
static inline const char *decimal(const char *s, int64_t exp, int64_t *out) {
    int64_t v = 0;
    while (*s >= '0' && *s <= '9') v = v * 10 + (*s++ - '0');
    if (*s == '.') {
        s++;
        while (exp > 0 && *s >= '0' && *s <= '9') { v = v * 10 + (*s++ - '0'); exp--; }
        while (*s == '0') s++;
        if (*s >= '0' && *s <= '9') return NULL;
    }
    while (exp-- > 0) v *= 10;
    *out = v;
    return s;
}

static inline int set_level(book *b, int side, int64_t key, int64_t qty) {
    level *levels = b->side[side];
    int64_t count = b->count[side], low = 0, length = count;
    while (length > 0) {
        int64_t half = length >> 1;
        if (levels[low + half].key < key) { low += half + 1; length -= half + 1; }
        else length = half;
    }
    if (low < count && levels[low].key == key) {
        if (qty) { levels[low].qty = qty; return 0; }
        memmove(levels + low, levels + low + 1, (size_t)(count - low - 1) * sizeof(level));
        b->count[side] = count - 1;
        return 0;
    }
    if (!qty) return 0;
    if (count == ROOM) return -1;
    memmove(levels + low + 1, levels + low, (size_t)(count - low) * sizeof(level));
    levels[low].key = key;
    levels[low].qty = qty;
    b->count[side] = count + 1;
    return 0;
}

#include "books_text.h"

/* All levels of a side, best first, as price and quantity in turn; returns how many. ``out`` holds 2 * 65536. */
int64_t book_levels(const book *b, int64_t side, int64_t *out) {
    int64_t count = b->count[side];
    for (int64_t k = 0; k < count; k++) {
        level l = b->side[side][count - 1 - k];
        out[2 * k] = side ? -l.key : l.key;
        out[2 * k + 1] = l.qty;
    }
    return count;
}
