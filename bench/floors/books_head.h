/* The first member of every book floor's ``book``; levels are key (bids: price, asks: minus price) and quantity. */
#ifndef ARB_BOOKS_HEAD_H
#define ARB_BOOKS_HEAD_H

#include "floor.h"

typedef struct { int64_t key, qty; } level;

typedef struct {
    int64_t last;         /* update id */
    int64_t fresh;        /* 1: no update on top of the snapshot yet */
    int64_t price_exp, qty_exp;
    int64_t previous_key; /* 1: updates carry "pu" */
} head;

#endif
