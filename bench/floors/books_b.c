/* Floor B of bench/books.py: a parser of eight bytes at a time, a sorted array in blocks of 64 levels a side. */
#include "books_head.h"

#define BLOCK 64
#define BLOCKS 1024 /* of a side */

typedef struct { int64_t first, block, count, unused; } entry;

typedef struct {
    head head;
    int64_t blocks[2];
    int64_t free_count;
    int64_t free_block[2 * BLOCKS];
    entry directory[2][BLOCKS]; /* worst first, best last */
    level pool[2 * BLOCKS][BLOCK];
} book;

static const int64_t POW10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

static void clear(book *b) {
    b->blocks[0] = b->blocks[1] = 0;
    b->free_count = 2 * BLOCKS;
    for (int64_t k = 0; k < 2 * BLOCKS; k++) b->free_block[k] = 2 * BLOCKS - 1 - k;
}

/* --- numbers: eight digits by three multiplications --- */

static inline uint64_t load(const char *s) {
    uint64_t c;
    memcpy(&c, s, 8); /* little-endian hosts only, as the engine */
    return c;
}

static inline int digit_count(uint64_t c) {
    uint64_t other = ((c + 0x4646464646464646u) | (c - 0x3030303030303030u)) & 0x8080808080808080u;
    return other ? __builtin_ctzll(other) >> 3 : 8;
}

/* Value of the first n digits, 1 <= n <= 8. */
static inline int64_t value(uint64_t c, int n) {
    c <<= 8 * (8 - n);
    c = ((c & 0x0F0F0F0F0F0F0F0Fu) * 2561) >> 8;
    c = ((c & 0x00FF00FF00FF00FFu) * 6553601) >> 16;
    return (int64_t)(((c & 0x0000FFFF0000FFFFu) * 42949672960001u) >> 32);
}

/* A decimal in fixed point; NULL where its digits do not fit. */
static inline const char *decimal(const char *s, int64_t exp, int64_t *out) {
    int64_t v = 0;
    int n;
    do {
        uint64_t c = load(s);
        n = digit_count(c);
        if (n) v = v * POW10[n] + value(c, n);
        s += n;
    } while (n == 8);
    if (*s == '.') {
        uint64_t c = load(++s);
        n = digit_count(c);
        int used = n < exp ? n : (int)exp;
        if (used) v = v * POW10[used] + value(c, used);
        if (n > used) {
            uint64_t rest = (c ^ 0x3030303030303030u) >> (8 * used);
            if (n - used < 8) rest &= ((uint64_t)1 << (8 * (n - used))) - 1;
            if (rest) return NULL;
        }
        exp -= used;
        s += n;
        if (n == 8) { /* more than eight places: the rare rest by bytes */
            while (exp > 0 && *s >= '0' && *s <= '9') { v = v * 10 + (*s++ - '0'); exp--; }
            while (*s == '0') s++;
            if (*s >= '0' && *s <= '9') return NULL;
        }
    }
    for (; exp > 8; exp -= 8) v *= POW10[8];
    *out = v * POW10[exp];
    return s;
}

/* --- levels --- */

static inline int insert_entry(book *b, int side, int64_t at, int64_t key, int64_t count) {
    if (b->blocks[side] == BLOCKS) return -1;
    entry *e = b->directory[side];
    memmove(e + at + 1, e + at, (size_t)(b->blocks[side] - at) * sizeof(entry));
    e[at].first = key;
    e[at].block = b->free_block[--b->free_count];
    e[at].count = count;
    b->blocks[side]++;
    return 0;
}

static inline void remove_level(book *b, int side, int64_t at, int64_t low) {
    entry *e = b->directory[side] + at;
    level *levels = b->pool[e->block];
    if (e->count == 1) {
        b->free_block[b->free_count++] = e->block;
        memmove(e, e + 1, (size_t)(b->blocks[side] - at - 1) * sizeof(entry));
        b->blocks[side]--;
        return;
    }
    memmove(levels + low, levels + low + 1, (size_t)(e->count - low - 1) * sizeof(level));
    e->count--;
    e->first = levels[0].key;
}

static inline int set_level(book *b, int side, int64_t key, int64_t qty) {
    entry *directory = b->directory[side];
    int64_t at = 0, blocks = b->blocks[side];
    if (!blocks) {
        if (!qty) return 0;
        if (insert_entry(b, side, 0, key, 1)) return -1;
        b->pool[directory[0].block][0] = (level){key, qty};
        return 0;
    }
    for (int64_t length = blocks; length > 1;) {
        int64_t half = length >> 1;
        at += directory[at + half].first <= key ? half : 0;
        length -= half;
    }
    entry *e = directory + at;
    level *levels = b->pool[e->block];
    int64_t low = 0;
    for (int64_t length = e->count; length > 1;) {
        int64_t half = length >> 1;
        low += levels[low + half - 1].key < key ? half : 0;
        length -= half;
    }
    low += levels[low].key < key;
    if (low < e->count && levels[low].key == key) {
        if (qty) levels[low].qty = qty;
        else remove_level(b, side, at, low);
        return 0;
    }
    if (!qty) return 0;
    if (e->count == BLOCK) {
        if (low == BLOCK && at + 1 == blocks) { /* a new best price behind a full block */
            if (insert_entry(b, side, at + 1, key, 1)) return -1;
            b->pool[e[1].block][0] = (level){key, qty};
            return 0;
        }
        if (insert_entry(b, side, at + 1, levels[BLOCK / 2].key, BLOCK / 2)) return -1;
        memcpy(b->pool[e[1].block], levels + BLOCK / 2, BLOCK / 2 * sizeof(level));
        e->count = BLOCK / 2;
        if (low > BLOCK / 2) {
            low -= BLOCK / 2;
            e++;
            levels = b->pool[e->block];
        }
    }
    memmove(levels + low + 1, levels + low, (size_t)(e->count - low) * sizeof(level));
    levels[low] = (level){key, qty};
    e->count++;
    e->first = levels[0].key;
    return 0;
}

#include "books_text.h"

/* All levels of a side, best first, as price and quantity in turn; returns how many. ``out`` holds 2 * 65536. */
int64_t book_levels(const book *b, int64_t side, int64_t *out) {
    int64_t n = 0;
    for (int64_t at = b->blocks[side] - 1; at >= 0; at--) {
        const entry *e = b->directory[side] + at;
        for (int64_t k = e->count - 1; k >= 0; k--, n++) {
            level l = b->pool[e->block][k];
            out[2 * n] = side ? -l.key : l.key;
            out[2 * n + 1] = l.qty;
        }
    }
    return n;
}
