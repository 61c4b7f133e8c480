/* Binance's depth messages for the book floors. Included behind ``decimal``, ``clear`` and ``set_level`` of a floor.
 *
 * It knows the order of the keys, expects no white space, no escapes and no exponents, publishes nothing, keeps no
 * counters. It does check the numbering of the updates, and refuses digits that the exponent cannot hold.
 * Texts end with eight zero bytes.
 */

book *book_new(int64_t price_exp, int64_t qty_exp, int64_t previous_key) {
    book *b = calloc(1, sizeof(book));
    if (b) {
        b->head.price_exp = price_exp;
        b->head.qty_exp = qty_exp;
        b->head.previous_key = previous_key;
        clear(b);
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

/* Levels from behind the outer '[' to behind its ']'. */
static inline const char *levels(book *b, int side, const char *s) {
    while (*s == '[') {
        int64_t price, qty;
        s = decimal(s + 2, b->head.price_exp, &price);
        if (!s || memcmp(s, "\",\"", 3)) return NULL;
        s = decimal(s + 3, b->head.qty_exp, &qty);
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
    clear(b);
    whole(id + 15, &b->head.last);
    b->head.fresh = 1;
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
    if (b->head.previous_key) {
        if (memcmp(s, ",\"pu\":", 6)) return -1;
        s = whole(s + 6, &previous);
    }
    if (b->head.fresh ? first > b->head.last + !b->head.previous_key || last < b->head.last + !b->head.previous_key
                 : b->head.previous_key ? previous != b->head.last : first != b->head.last + 1)
        return -1;
    if (memcmp(s, ",\"b\":[", 6) || !(s = levels(b, 0, s + 6))) return -1;
    if (memcmp(s, ",\"a\":[", 6) || !levels(b, 1, s + 6)) return -1;
    b->head.last = last;
    b->head.fresh = 0;
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
