/* Floor of bench/books.py: scalar parser and one sorted array a side, Binance's layout taken for granted.
 *
 * It knows the order of the keys, expects no white space, no escapes and no exponents, publishes nothing, keeps no
 * counters. It does check the numbering of the updates, and refuses digits that the exponent cannot hold.
 * Texts end with a zero byte.
 */
#include "floor.h"

#define ROOM 65536

typedef struct { int64_t price, qty; } level;

typedef struct {
    int64_t count[2];
    int64_t last;         /* update id */
    int64_t fresh;        /* 1: no update on top of the snapshot yet */
    int64_t price_exp, qty_exp;
    int64_t previous_key; /* 1: updates carry "pu" */
    level side[2][ROOM];  /* worst first, best last; bids by price, asks by minus price */
} book;

book *book_new(int64_t price_exp, int64_t qty_exp, int64_t previous_key) {
    book *b = calloc(1, sizeof(book));
    if (b) {
        b->price_exp = price_exp;
        b->qty_exp = qty_exp;
        b->previous_key = previous_key;
    }
    return b;
}

void book_free(book *b) { free(b); }

static inline const char *whole(const char *s, int64_t *out) {
    int64_t v = 0;
    while (*s >= '0' && *s <= '9') v = v * 10 + (*s++ - '0');
    *out = v;
    return s;
}

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
        if (levels[low + half].price < key) { low += half + 1; length -= half + 1; }
        else length = half;
    }
    if (low < count && levels[low].price == key) {
        if (qty) { levels[low].qty = qty; return 0; }
        memmove(levels + low, levels + low + 1, (size_t)(count - low - 1) * sizeof(level));
        b->count[side] = count - 1;
        return 0;
    }
    if (!qty) return 0;
    if (count == ROOM) return -1;
    memmove(levels + low + 1, levels + low, (size_t)(count - low) * sizeof(level));
    levels[low].price = key;
    levels[low].qty = qty;
    b->count[side] = count + 1;
    return 0;
}

/* Levels from behind the outer '[' to behind its ']'. */
static inline const char *levels(book *b, int side, const char *s) {
    while (*s == '[') {
        int64_t price, qty;
        s = decimal(s + 2, b->price_exp, &price);
        if (!s || memcmp(s, "\",\"", 3)) return NULL;
        s = decimal(s + 3, b->qty_exp, &qty);
        if (!s || s[0] != '"' || s[1] != ']') return NULL;
        if (set_level(b, side, side ? -price : price, qty)) return NULL;
        s += 2;
        if (*s == ',') s++;
    }
    return *s == ']' ? s + 1 : NULL;
}

/* A REST snapshot; 0, or -1 where its text is not as expected. */
int64_t book_snapshot(book *b, const char *s) {
    const char *id = strstr(s, "\"lastUpdateId\":"), *bids = strstr(s, "\"bids\":["), *asks = strstr(s, "\"asks\":[");
    if (!id || !bids || !asks) return -1;
    b->count[0] = b->count[1] = 0;
    whole(id + 15, &b->last);
    b->fresh = 1;
    return levels(b, 0, bids + 8) && levels(b, 1, asks + 8) ? 0 : -1;
}

/* One update; 0 applied, -1 not as expected or a gap. */
static inline int update(book *b, const char *s) {
    int64_t first, last, previous = 0;
    s = strstr(s, "\"U\":");
    if (!s) return -1;
    s = whole(s + 4, &first);
    if (memcmp(s, ",\"u\":", 5)) return -1;
    s = whole(s + 5, &last);
    if (b->previous_key) {
        if (memcmp(s, ",\"pu\":", 6)) return -1;
        s = whole(s + 6, &previous);
    }
    if (b->fresh ? first > b->last + !b->previous_key || last < b->last + !b->previous_key
                 : b->previous_key ? previous != b->last : first != b->last + 1)
        return -1;
    if (memcmp(s, ",\"b\":[", 6) || !(s = levels(b, 0, s + 6))) return -1;
    if (memcmp(s, ",\"a\":[", 6) || !levels(b, 1, s + 6)) return -1;
    b->last = last;
    b->fresh = 0;
    return 0;
}

/* n updates at ``text + offsets[k]``; returns how many were applied before one failed. samples: ns each, or NULL. */
int64_t book_run(book *b, const char *text, const int64_t *offsets, int64_t n, int64_t *samples) {
    for (int64_t k = 0; k < n; k++) {
        if (samples) {
            int64_t start = now_ns();
            if (update(b, text + offsets[k])) return k;
            samples[k] = now_ns() - start;
        } else if (update(b, text + offsets[k])) {
            return k;
        }
    }
    return n;
}

/* All levels of a side, best first, as price and quantity in turn; returns how many. ``out`` holds 2 * 65536. */
int64_t book_levels(const book *b, int64_t side, int64_t *out) {
    int64_t count = b->count[side];
    for (int64_t k = 0; k < count; k++) {
        level l = b->side[side][count - 1 - k];
        out[2 * k] = side ? -l.price : l.price;
        out[2 * k + 1] = l.qty;
    }
    return count;
}
