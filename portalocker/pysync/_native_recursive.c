/* RecursiveMutex: its owner may lock it again. */
#include "_native_shape.h"

struct recursive_object {
    OBJECT_HEAD
    struct mutex mutex;
    /* 0: free. Only the owner's own thread can find itself here. */
    _Atomic unsigned long owner;
    /* of locks not yet unlocked; written by the owner */
    _Atomic unsigned long count;
};
ASSERT_WORD_FIRST(struct recursive_object, mutex);

static inline struct recursive_object *
as_recursive(PyObject *self)
{
    return (struct recursive_object *)self;
}

static inline unsigned long
owner_of(struct recursive_object *self)
{
    return atomic_load_explicit(&self->owner, memory_order_relaxed);
}

static inline void
set_owner(struct recursive_object *self, unsigned long owner)
{
    atomic_store_explicit(&self->owner, owner, memory_order_relaxed);
}

static inline unsigned long
count_of(struct recursive_object *self)
{
    return atomic_load_explicit(&self->count, memory_order_relaxed);
}

static inline void
set_count(struct recursive_object *self, unsigned long count)
{
    atomic_store_explicit(&self->count, count, memory_order_relaxed);
}

static enum outcome
take(PyObject *object, nanoseconds deadline)
{
    struct recursive_object *self = as_recursive(object);
    unsigned long me = PyThread_get_thread_ident();
    if (owner_of(self) == me) {
        unsigned long count = count_of(self);
        if (count == ULONG_MAX) {
            PyErr_SetString(PyExc_OverflowError,
                            "cannot lock: locked too often");
            return INTERRUPTED;
        }
        set_count(self, count + 1);
        return DONE;
    }
    enum outcome outcome = mutex_lock(&self->mutex, object, deadline);
    if (outcome == DONE) {
        set_owner(self, me);
        set_count(self, 1);
    }
    return outcome;
}

static bool
is_owned(struct recursive_object *self)
{
    return owner_of(self) == PyThread_get_thread_ident();
}

/* Give all back; false with RuntimeError, and still ours. */
static bool
disown(struct recursive_object *self)
{
    unsigned long me = owner_of(self);
    set_owner(self, 0);
    if (!mutex_unlock(&self->mutex)) {
        set_owner(self, me);
        return false;
    }
    return true;
}

static bool
is_owned_or_error(struct recursive_object *self)
{
    if (is_owned(self)) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
    return false;
}

static bool
release(PyObject *object)
{
    struct recursive_object *self = as_recursive(object);
    if (!is_owned_or_error(self)) {
        return false;
    }
    unsigned long count = count_of(self);
    if (count > 1) {
        set_count(self, count - 1);
        return true;
    }
    return disown(self);
}

static bool
is_locked(PyObject *self)
{
    return mutex_is_locked(&as_recursive(self)->mutex);
}

static const struct lock_verbs recursive_verbs = {take, release, is_locked};

SHAPE_AS_LOCK(recursive)

static PyObject *
recursive_is_locked_by(PyObject *self, PyObject *const *arguments,
                       Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"ident", NULL};
    PyObject *ident;
    if (!take_arguments("is_locked_by", names, 0, arguments, count, keywords,
                        &ident)) {
        return NULL;
    }
    unsigned long thread = PyThread_get_thread_ident();
    if (ident != NULL && ident != Py_None) {
        thread = PyLong_AsUnsignedLong(ident);
        if (thread == (unsigned long)-1 && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
                return NULL;
            }
            PyErr_Clear();
            thread = 0; /* no thread has such a number */
        }
    }
    return PyBool_FromLong(
        thread != 0 && owner_of(as_recursive(self)) == thread);
}

static PyObject *
recursive_is_owned(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_owned(as_recursive(self)));
}

static PyObject *
recursive_holder(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(
        owner_of(as_recursive(self)));
}

static PyObject *
recursive_count(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = as_recursive(object);
    return PyLong_FromUnsignedLong(is_owned(self) ? count_of(self) : 0);
}

static PyObject *
recursive_release_save(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = as_recursive(object);
    if (!is_owned_or_error(self)) {
        return NULL;
    }
    PyObject *saved = Py_BuildValue("(kk)", count_of(self), owner_of(self));
    if (saved != NULL && !disown(self)) {
        Py_CLEAR(saved);
    }
    return saved;
}

static PyObject *
recursive_acquire_restore(PyObject *object, PyObject *saved)
{
    struct recursive_object *self = as_recursive(object);
    unsigned long count, owner;
    if (!PyTuple_Check(saved)) {
        PyErr_SetString(PyExc_TypeError,
                        "_acquire_restore() takes what _release_save() gave");
        return NULL;
    }
    if (!PyArg_ParseTuple(saved, "kk:_acquire_restore", &count, &owner)) {
        return NULL;
    }
    /* as threading has it, no signal's handler ends this */
    if (mutex_lock_slow(&self->mutex, object, NEVER, false) != DONE) {
        return NULL;
    }
    set_owner(self, owner);
    set_count(self, count);
    Py_RETURN_NONE;
}

static PyObject *
recursive_at_fork_reinit(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct recursive_object *self = as_recursive(object);
    set_owner(self, 0);
    set_count(self, 0);
    mutex_reset(&self->mutex);
    Py_RETURN_NONE;
}

static PyObject *
recursive_repr(PyObject *object)
{
    struct recursive_object *self = as_recursive(object);
    bool is_locked = mutex_is_locked(&self->mutex);
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.RecursiveMutex object owner=%lu count=%lu "
        "at %p>",
        is_locked ? "locked" : "unlocked", owner_of(self),
        is_locked ? count_of(self) : 0, self);
}

PyDoc_STRVAR(recursive_doc,
"RecursiveMutex()\n--\n\n"
"A mutex that its owner may lock again; it unlocks as often.");

#define RECURSIVE_RELEASE_ROW(name) \
    {name, recursive_release_method, METH_NOARGS, \
     PyDoc_STR(name "($self)\n--\n\n" \
               "Let go once. RuntimeError if it is not ours.")}

static PyMethodDef recursive_methods[] = {
    ACQUIRE_ROW(recursive, "acquire",
                "Take it, once more if it is ours, and return True; False if "
                "it stayed taken."),
    RECURSIVE_RELEASE_ROW("release"),
    LOCKED_ROW(recursive, "locked"),
    TIMED_ROW(recursive),
    LOCK_ROW(recursive),
    RECURSIVE_RELEASE_ROW("unlock"),
    LOCKED_ROW(recursive, "is_locked"),
    {"is_locked_by", KEYWORDS(recursive_is_locked_by),
     PyDoc_STR("is_locked_by($self, ident=None)\n--\n\n"
               "Say whether thread `ident`, else this one, holds it.")},
    {"_holder", recursive_holder, METH_NOARGS, NULL},
    {"_is_owned", recursive_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", recursive_count, METH_NOARGS, NULL},
    {"_release_save", recursive_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", recursive_acquire_restore, METH_O, NULL},
    {"_at_fork_reinit", recursive_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot recursive_slots[] = {
    {Py_tp_doc, (char *)recursive_doc},
    {Py_tp_new, recursive_new},
    {Py_tp_dealloc, free_object},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, recursive_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, recursive_methods},
    {0, NULL},
};

static PyType_Spec recursive_spec = {
    .name = "portalocker.pysync.RecursiveMutex",
    .basicsize = sizeof(struct recursive_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = recursive_slots,
};

int
add_recursive_mutex(PyObject *module)
{
    return add_context_type(module, "RecursiveMutex", &recursive_spec,
                            &module_state(module)->recursive_type);
}
