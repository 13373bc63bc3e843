/* The word of an RWMutex, and how it is taken where nobody has to wait. */
#ifndef PORTALOCKER_PYSYNC_NATIVE_RW_WORD_H
#define PORTALOCKER_PYSYNC_NATIVE_RW_WORD_H

#include "_native.h"

/* bits                | meaning
 * 0                   | free
 * WRITTEN             | a writer holds it
 * n * READER          | n readers hold it
 * ... | WAITED        | threads in the lot; all but readers that are not the
 *                     | last to leave need the bucket
 *
 * While nobody waits for longer than OVERTAKEN_FOR, who comes first gets it.
 * Then it is handed over: after a writer to all readers that wait, after
 * readers to the writer that has waited longest. */
enum { WRITTEN = 1, WAITED = 2, READER = 4 };

typedef uintptr_t rw_bits;

/* Each change is one compare-exchange that acquires and releases: a reader
 * that leaves passes on to the writer what it read, and the last one what all
 * before it did. Plain stores happen under the bucket's lock, by whoever has
 * the word to itself. */
struct rw_word {
    _Atomic rw_bits bits;
    _Atomic unsigned long holder; /* the writer */
};

static inline rw_bits
rw_load(struct rw_word *rw)
{
    return atomic_load_explicit(&rw->bits, memory_order_relaxed);
}

static inline bool
rw_replace(struct rw_word *rw, rw_bits *expected, rw_bits desired)
{
    return atomic_compare_exchange_strong_explicit(
        &rw->bits, expected, desired, memory_order_acq_rel,
        memory_order_relaxed);
}

static inline bool
rw_is_read(rw_bits bits)
{
    return bits >= READER;
}

/* DONE: it is ours. INTERRUPTED: with the handler's exception. */
enum outcome rw_lock_slow(struct rw_word *, PyObject *object,
                          nanoseconds deadline, bool as_writer);
/* False with RuntimeError; then nothing has changed. */
bool rw_unlock_read(struct rw_word *);
bool rw_unlock_write(struct rw_word *);
/* The writer becomes a reader; so do the readers that wait. */
bool rw_downgrade(struct rw_word *);
/* Free, and whoever waits looks again. */
void rw_reset(struct rw_word *);

static inline enum outcome
rw_lock_read(struct rw_word *rw, PyObject *object, nanoseconds deadline)
{
    rw_bits bits = rw_load(rw);
    while (!(bits & (WRITTEN | WAITED))) {
        if (rw_replace(rw, &bits, bits + READER)) {
            return DONE;
        }
    }
    return rw_lock_slow(rw, object, deadline, false);
}

static inline enum outcome
rw_lock_write(struct rw_word *rw, PyObject *object, nanoseconds deadline)
{
    rw_bits bits = 0;
    enum outcome outcome = DONE;
    if (!rw_replace(rw, &bits, WRITTEN)) {
        outcome = rw_lock_slow(rw, object, deadline, true);
    }
    if (outcome == DONE) {
        atomic_store_explicit(&rw->holder, PyThread_get_thread_ident(),
                              memory_order_relaxed);
    }
    return outcome;
}

#endif
