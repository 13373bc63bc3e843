/* OnceFlag: what runs once, and whoever waits for it. */
#include "_native.h"

/* word                        | meaning
 * 0                           | not run
 * RUNNING | fork generation   | some thread runs the function
 * RUNNING | ... | WAITED      | threads in the lot, too
 * HAS_RUN                     | it has returned
 *
 * The generation is in the word because a runner that is no survivor of a
 * fork() will never return. */
enum { RUNNING = 1, WAITED = 2, HAS_RUN = 4, GENERATION_SHIFT = 8 };

typedef uint_least64_t once_word;

struct once_object {
    OBJECT_HEAD
    _Atomic once_word word;
    _Atomic unsigned long runner; /* 0 but while its function runs */
};
ASSERT_WORD_FIRST(struct once_object, word);

static inline once_word
once_state(struct once_object *self)
{
    return atomic_load_explicit(&self->word, memory_order_acquire);
}

static inline unsigned long
runner_of(struct once_object *self)
{
    return atomic_load_explicit(&self->runner, memory_order_relaxed);
}

/* The function is over, or its thread is. */
static void
conclude(struct once_object *self, once_word word)
{
    atomic_store_explicit(&self->runner, 0, memory_order_relaxed);
    if (atomic_exchange_explicit(&self->word, word, memory_order_acq_rel)
        & WAITED) {
        bucket_wake_all(&self->word);
    }
}

static bool
runner_is_gone(struct once_object *self, once_word word)
{
    return (unsigned)(word >> GENERATION_SHIFT) != fork_generation()
           && runner_of(self) != fork_survivor();
}

static bool
is_running(struct once_object *self, once_word word)
{
    return (word & RUNNING) && !runner_is_gone(self, word);
}

/* DONE: look again. */
static enum outcome
wait_for_runner(struct once_object *self)
{
    struct waiter *waiter = waiter_take(&self->word, (PyObject *)self);
    if (waiter == NULL) {
        return INTERRUPTED;
    }
    enum outcome outcome = DONE;
    struct bucket *bucket = bucket_lock(&self->word);
    once_word word = once_state(self);
    if (is_running(self, word)
        && atomic_compare_exchange_strong_explicit(
            &self->word, &word, word | WAITED, memory_order_acquire,
            memory_order_acquire)) {
        bucket_enter(bucket, waiter);
        outcome = bucket_sleep(waiter, NEVER, true);
    }
    else {
        bucket_unlock(bucket);
    }
    return waiter_give_back(waiter) ? outcome : INTERRUPTED;
}

/* Become the runner: true. False: it has run, or with an exception. */
static bool
begin_to_run(struct once_object *self)
{
    for (;;) {
        once_word word = once_state(self);
        if (word == HAS_RUN) {
            return false;
        }
        if (word == 0 || runner_is_gone(self, word)) {
            once_word running
                = RUNNING | (once_word)fork_generation() << GENERATION_SHIFT;
            if (atomic_compare_exchange_strong_explicit(
                    &self->word, &word, running | (word & WAITED),
                    memory_order_acquire, memory_order_relaxed)) {
                atomic_store_explicit(&self->runner,
                                      PyThread_get_thread_ident(),
                                      memory_order_relaxed);
                return true;
            }
        }
        else if (runner_of(self) == PyThread_get_thread_ident()) {
            PyErr_SetString(PyExc_RuntimeError,
                            "cannot run fn: this OnceFlag is already running "
                            "in this thread");
            return false;
        }
        else if (wait_for_runner(self) == INTERRUPTED) {
            return false;
        }
    }
}

static PyObject *
once_do(PyObject *object, PyObject *const *arguments, Py_ssize_t count,
        PyObject *keywords)
{
    struct once_object *self = (struct once_object *)object;
    if (count == 0) {
        PyErr_SetString(PyExc_TypeError, "do() takes the function to run");
        return NULL;
    }
    if (once_state(self) == HAS_RUN) {
        Py_RETURN_FALSE;
    }
    if (!begin_to_run(self)) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    PyObject *result = PyObject_Vectorcall(arguments[0], arguments + 1,
                                           (size_t)count - 1, keywords);
    conclude(self, result != NULL ? HAS_RUN : 0);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_TRUE;
}

static PyObject *
once_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(once_state((struct once_object *)self) == HAS_RUN);
}

static PyObject *
once_holder(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct once_object *self = (struct once_object *)object;
    return PyLong_FromUnsignedLong(
        is_running(self, once_state(self)) ? runner_of(self) : 0);
}

static PyObject *
once_at_fork_reinit(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct once_object *self = (struct once_object *)object;
    if (once_state(self) != HAS_RUN) {
        conclude(self, 0);
    }
    Py_RETURN_NONE;
}

static PyObject *
once_repr(PyObject *object)
{
    struct once_object *self = (struct once_object *)object;
    once_word word = once_state(self);
    return PyUnicode_FromFormat("<portalocker.pysync.OnceFlag at %p: %s>",
                                object,
                                word == HAS_RUN          ? "done"
                                : is_running(self, word) ? "running"
                                                         : "not run");
}

PyDoc_STRVAR(once_doc,
"OnceFlag()\n--\n\n"
"Runs a function once: until one of them has returned.");

static PyMethodDef once_methods[] = {
    {"do", KEYWORDS(once_do),
     PyDoc_STR("do($self, fn, /, *args, **kwargs)\n--\n\n"
               "Run `fn(*args, **kwargs)` if none has returned before, and "
               "say whether we did; wait while another thread does.")},
    {"done", once_done, METH_NOARGS,
     PyDoc_STR("done($self)\n--\n\nSay whether one has returned.")},
    {"_holder", once_holder, METH_NOARGS, NULL},
    {"_at_fork_reinit", once_at_fork_reinit, METH_NOARGS, NULL},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot once_slots[] = {
    {Py_tp_doc, (char *)once_doc},
    {Py_tp_new, new_object},
    {Py_tp_dealloc, free_object},
    {Py_tp_repr, once_repr},
    {Py_tp_members, object_members},
    {Py_tp_methods, once_methods},
    {0, NULL},
};

static PyType_Spec once_spec = {
    .name = "portalocker.pysync.OnceFlag",
    .basicsize = sizeof(struct once_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = once_slots,
};

int
add_once(PyObject *module)
{
    return add_type(module, "OnceFlag", &once_spec,
                    &module_state(module)->once_type);
}
