/* What all that is shaped like a lock has in common.
 *
 * A type says in `struct lock_verbs` how its lock is taken and let go; its
 * methods are made of that. All is inline, for the compiler to see through.
 */
#ifndef PORTALOCKER_PYSYNC_NATIVE_SHAPE_H
#define PORTALOCKER_PYSYNC_NATIVE_SHAPE_H

#include "_native.h"

/* The deadline of acquire(); without arguments there is none. */
static inline bool
read_deadline(PyObject *const *arguments, Py_ssize_t count,
             PyObject *keywords, nanoseconds *deadline)
{
    *deadline = NEVER;
    return (count == 0 && keywords == NULL)
           || deadline_of_acquire(arguments, count, keywords, deadline);
}

static inline PyObject *
shape_acquire(const struct lock_verbs *verbs, PyObject *self,
              PyObject *const *arguments, Py_ssize_t count,
              PyObject *keywords)
{
    nanoseconds deadline;
    return read_deadline(arguments, count, keywords, &deadline)
               ? outcome_as_bool(verbs->acquire(self, deadline))
               : NULL;
}

/* __enter__ and __exit__. */
static inline PyObject *
shape_call(const struct lock_verbs *verbs, PyObject *self, size_t count,
           PyObject *keywords)
{
    switch (context_call(count, keywords)) {
    case ENTERS:
        return verbs->acquire(self, NEVER) == DONE ? Py_NewRef(Py_True) : NULL;
    case EXITS:
        return none_if(verbs->release(self));
    default:
        return NULL;
    }
}

/* The functions of prefix_verbs that the tables of methods name. */
#define SHAPE_AS_LOCK(prefix) \
    static inline PyObject *prefix##_call( \
        PyObject *self, PyObject *const *Py_UNUSED(arguments), size_t count, \
        PyObject *keywords) \
    { \
        return shape_call(&prefix##_verbs, self, count, keywords); \
    } \
    static inline PyObject *prefix##_new( \
        PyTypeObject *type, PyObject *arguments, PyObject *keywords) \
    { \
        return new_context(type, arguments, keywords, prefix##_call); \
    } \
    static inline PyObject *prefix##_acquire_method( \
        PyObject *self, PyObject *const *arguments, Py_ssize_t count, \
        PyObject *keywords) \
    { \
        return shape_acquire(&prefix##_verbs, self, arguments, count, \
                             keywords); \
    } \
    static inline PyObject *prefix##_lock_method( \
        PyObject *self, PyObject *Py_UNUSED(ignored)) \
    { \
        return none_if(prefix##_verbs.acquire(self, NEVER) == DONE); \
    } \
    static inline PyObject *prefix##_release_method( \
        PyObject *self, PyObject *Py_UNUSED(ignored)) \
    { \
        return none_if(prefix##_verbs.release(self)); \
    } \
    static inline PyObject *prefix##_locked_method( \
        PyObject *self, PyObject *Py_UNUSED(ignored)) \
    { \
        return PyBool_FromLong(prefix##_verbs.is_locked(self)); \
    } \
    static inline PyObject *prefix##_timed_method( \
        PyObject *self, PyTypeObject *defining, \
        PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) \
    { \
        return new_timed(defining, self, &prefix##_verbs, arguments, count, \
                         keywords); \
    }

/* Rows of the tables of methods. */

#define RELEASE_ROW(prefix, name) \
    {name, prefix##_release_method, METH_NOARGS, \
     PyDoc_STR(name "($self)\n--\n\n" \
               "Let go; any thread may. RuntimeError if it is not locked.")}

#define LOCKED_ROW(prefix, name) \
    {name, prefix##_locked_method, METH_NOARGS, \
     PyDoc_STR(name "($self)\n--\n\nSay whether anybody holds it.")}

#define LOCK_ROW(prefix) \
    {"lock", prefix##_lock_method, METH_NOARGS, \
     PyDoc_STR("lock($self)\n--\n\nTake it, however long it takes.")}

#define ACQUIRE_ROW(prefix, name, text) \
    {name, KEYWORDS(prefix##_acquire_method), \
     PyDoc_STR(name "($self, blocking=True, timeout=-1)\n--\n\n" text)}

#define TIMED_ROW(prefix) \
    {"timed", OF_CLASS(prefix##_timed_method), \
     PyDoc_STR("timed($self, seconds)\n--\n\n" \
               "For `with`: TimeoutError if it stays taken so long.")}

#endif
