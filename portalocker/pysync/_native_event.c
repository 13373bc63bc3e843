/* Event: what happens once, and whoever waits for it. */
#include "_native.h"

/* bits   | meaning
 * 0      | unset
 * WAITED | unset, threads may be in the lot
 * SET    | set, for ever */
enum { SET = 1, WAITED = 2 };

struct event_object {
    OBJECT_HEAD
    atomic_uchar bits;
};
ASSERT_WORD_FIRST(struct event_object, bits);

static inline bool
is_set(struct event_object *self)
{
    return atomic_load_explicit(&self->bits, memory_order_acquire) == SET;
}

static enum outcome
wait_slow(struct event_object *self, nanoseconds deadline)
{
    struct waiter *waiter = waiter_take(&self->bits, (PyObject *)self);
    if (waiter == NULL) {
        return INTERRUPTED;
    }
    enum outcome outcome = DONE;
    while (outcome == DONE && !is_set(self)) {
        struct bucket *bucket = bucket_lock(&self->bits);
        unsigned char bits = 0;
        if (!atomic_compare_exchange_strong_explicit(
                &self->bits, &bits, WAITED, memory_order_acquire,
                memory_order_acquire)
            && bits == SET) {
            bucket_unlock(bucket);
            break;
        }
        bucket_enter(bucket, waiter);
        outcome = bucket_sleep(waiter, deadline, true);
    }
    return waiter_give_back(waiter) ? outcome : INTERRUPTED;
}

/* The truth, however the wait ended. */
static PyObject *
wait_until(struct event_object *self, nanoseconds deadline)
{
    if (!is_set(self) && deadline != AT_ONCE
        && wait_slow(self, deadline) == INTERRUPTED) {
        return NULL;
    }
    return PyBool_FromLong(is_set(self));
}

static PyObject *
event_wait(PyObject *object, PyObject *const *arguments, Py_ssize_t count,
           PyObject *keywords)
{
    static const char *const names[] = {"timeout", NULL};
    struct event_object *self = (struct event_object *)object;
    PyObject *timeout = NULL;
    nanoseconds deadline;
    if ((count != 0 || keywords != NULL)
        && !take_arguments("wait", names, 0, arguments, count, keywords,
                           &timeout)) {
        return NULL;
    }
    if (timeout == NULL || timeout == Py_None) {
        return wait_until(self, NEVER);
    }
    if (!deadline_of_timeout(timeout, &deadline)) {
        return NULL;
    }
    /* threading's events do not wait for ever where it is negative */
    return wait_until(self, deadline == NEVER ? AT_ONCE : deadline);
}

static PyObject *
event_wait_timed(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                 PyObject *keywords)
{
    static const char *const names[] = {"timeout", NULL};
    PyObject *timeout;
    nanoseconds deadline;
    if (!take_arguments("wait_timed", names, 1, arguments, count, keywords,
                        &timeout)
        || !deadline_of_timeout(timeout, &deadline)) {
        return NULL;
    }
    return wait_until((struct event_object *)self, deadline);
}

static PyObject *
event_set(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct event_object *self = (struct event_object *)object;
    if (atomic_exchange_explicit(&self->bits, SET, memory_order_acq_rel)
        == WAITED) {
        bucket_wake_all(&self->bits);
    }
    Py_RETURN_NONE;
}

static PyObject *
event_is_set(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_set((struct event_object *)self));
}

static PyObject *
event_repr(PyObject *self)
{
    return PyUnicode_FromFormat(
        "<portalocker.pysync.Event at %p: %s>", self,
        is_set((struct event_object *)self) ? "set" : "unset");
}

PyDoc_STRVAR(event_doc,
"Event()\n--\n\n"
"Something that happens once, and never becomes undone.");

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS,
     PyDoc_STR("is_set($self)\n--\n\nSay whether it has happened.")},
    {"set", event_set, METH_NOARGS,
     PyDoc_STR("set($self)\n--\n\nIt has happened: wake all that wait.")},
    {"notify", event_set, METH_NOARGS,
     PyDoc_STR("notify($self)\n--\n\nIt has happened: wake all that wait.")},
    {"wait", KEYWORDS(event_wait),
     PyDoc_STR("wait($self, timeout=None)\n--\n\n"
               "Wait until it is set, or for `timeout` seconds; None: ever. "
               "Say whether it is set.")},
    {"wait_timed", KEYWORDS(event_wait_timed),
     PyDoc_STR("wait_timed($self, timeout)\n--\n\n"
               "The same, where a negative timeout means for ever.")},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (char *)event_doc},
    {Py_tp_new, new_object},
    {Py_tp_dealloc, free_object},
    {Py_tp_repr, event_repr},
    {Py_tp_members, object_members},
    {Py_tp_methods, event_methods},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "portalocker.pysync.Event",
    .basicsize = sizeof(struct event_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = event_slots,
};

int
add_event(PyObject *module)
{
    return add_type(module, "Event", &event_spec,
                    &module_state(module)->event_type);
}
