/* A critical section and the stack it is on. */
#ifndef PORTALOCKER_PYSYNC_NATIVE_SECTION_H
#define PORTALOCKER_PYSYNC_NATIVE_SECTION_H

#include "_native.h"

/* state     | meaning
 * IDLE      | not begun
 * TAKING    | some thread is beginning it, and alone may touch it
 * HELD      | on the stack, all its mutexes are locked
 * SUSPENDED | on the stack, none is
 * NESTED    | begun, not on the stack: the innermost holds all it wants */
enum section_state { IDLE, TAKING, HELD, SUSPENDED, NESTED };

enum { INLINE_MUTEXES = 2 };

/* Sorted, each once. */
struct mutex_set {
    Py_ssize_t count;
    struct mutex_object **mutexes; /* `few`, or on the heap */
    struct mutex_object *few[INLINE_MUTEXES];
};

struct section {
    OBJECT_HEAD
    /* from IDLE to TAKING by compare-exchange, which acquires; back to IDLE
     * is a release: the next thread finds all that this one left. In between
     * it changes in its own thread only, and others may look */
    _Atomic(enum section_state) state;
    /* that began it, else NULL; borrowed. Others only compare it to theirs */
    struct cs_thread *_Atomic thread;
    struct section *outer;    /* below it on the stack; owned */
    struct mutex_set own;       /* for `with`: the constructor's */
    struct mutex_set given;     /* to begin(), for that once */
    struct mutex_set *wanted;   /* one of these: what it began with */
};

/* The stack of one thread. */
struct cs_thread {
    OBJECT_HEAD
    struct section *top; /* owned */
};

static inline enum section_state
state_of(struct section *section)
{
    return atomic_load_explicit(&section->state, memory_order_relaxed);
}

static inline void
set_state(struct section *section, enum section_state state)
{
    atomic_store_explicit(&section->state, state, memory_order_release);
}

static inline struct cs_thread *
thread_of(struct section *section)
{
    return atomic_load_explicit(&section->thread, memory_order_relaxed);
}

static inline void
set_thread(struct section *section, struct cs_thread *thread)
{
    atomic_store_explicit(&section->thread, thread, memory_order_relaxed);
}

/* This thread's stack, borrowed; NULL where it has none yet. Keeps a raised
 * exception. */
struct cs_thread *find_thread(void);
/* The same, made where there is none; NULL with an exception. */
struct cs_thread *need_thread(struct module_state *);

/* Of a section that is TAKING: hold `set`. False with an exception. */
bool section_enter(struct section *, struct cs_thread *, struct mutex_set *);
/* False with an exception. */
bool section_leave(struct section *);
/* Take the innermost section from the stack, as it is. */
void section_pop(struct cs_thread *);

#endif
