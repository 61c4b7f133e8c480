/* Floor of bench/symbols.py: the engine's table (three words of text and a slot + 1 an entry, open addressing), filled
 * and searched with a hash of our own choice for C: multiply and fold. Texts lie 24 bytes apart, zero padded.
 */
#include "floor.h"

typedef struct { int64_t text[3]; int64_t slot; } entry;

static inline uint64_t hash(const int64_t *t) {
    uint64_t h = (uint64_t)t[0] * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 32) ^ (uint64_t)t[1]) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 32) ^ (uint64_t)t[2]) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static inline void words_of(const char *text, int64_t length, int64_t *out) {
    memcpy(out, text, 24);
    for (int k = 0; k < 3; k++) {
        int64_t left = length - 8 * k;
        if (left < 8) out[k] = left <= 0 ? 0 : out[k] & (((int64_t)1 << (8 * left)) - 1);
    }
}

/* entries: a zeroed power of two, at least twice n. */
void symbols_fill(entry *table, int64_t entries, const char *texts, const int64_t *lengths, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        int64_t key[3];
        words_of(texts + 24 * k, lengths[k], key);
        uint64_t i = hash(key) & (uint64_t)(entries - 1);
        while (table[i].slot) i = (i + 1) & (uint64_t)(entries - 1);
        memcpy(table[i].text, key, 24);
        table[i].slot = k + 1;
    }
}

static inline int64_t find(const entry *table, int64_t entries, const char *text, int64_t length) {
    int64_t key[3];
    words_of(text, length, key);
    for (uint64_t i = hash(key) & (uint64_t)(entries - 1);; i = (i + 1) & (uint64_t)(entries - 1)) {
        if (!table[i].slot) return -1;
        if (table[i].text[0] == key[0] && table[i].text[1] == key[1] && table[i].text[2] == key[2])
            return table[i].slot - 1;
    }
}

/* ``batches`` times ``per`` look-ups, each of the symbol that the one before names: ns a batch; returns the last slot. */
int64_t symbols_chain(const entry *table, int64_t entries, const char *texts, const int64_t *lengths,
                      const int64_t *next, int64_t per, int64_t batches, int64_t *samples) {
    int64_t slot = 0;
    for (int64_t b = 0; b < batches; b++) {
        int64_t start = now_ns();
        for (int64_t k = 0; k < per; k++) {
            int64_t wanted = next[slot];
            slot = find(table, entries, texts + 24 * wanted, lengths[wanted]);
            if (slot < 0) return -1;
        }
        samples[b] = now_ns() - start;
    }
    return slot;
}
