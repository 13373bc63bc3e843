/* CriticalSection: mutexes that are given back while their thread sleeps.
 *
 * After PEP 703. Each thread has a stack of sections. Whoever has to sleep, in
 * whatever lock of this package, unlocks the mutexes of all its sections
 * first, and locks those of the innermost again afterwards: so nobody sleeps
 * with a mutex that the other one wants. Mutexes are taken in the order of
 * their addresses.
 */
#include "_native.h"

#include <stdlib.h>
#include <string.h>

/* state     | meaning
 * IDLE      | not begun
 * TAKING    | on the stack; its mutexes are being locked right now
 * HELD      | on the stack, all its mutexes are locked
 * SUSPENDED | on the stack, none is
 * NESTED    | begun, not on the stack: the innermost holds all it wants */
enum section_state { IDLE, TAKING, HELD, SUSPENDED, NESTED };

enum { INLINE_MUTEXES = 2 };

struct section {
    OBJECT_HEAD
    enum section_state state;
    struct cs_thread *thread; /* that began it; borrowed */
    struct section *outer;    /* below it on the stack; owned */
    Py_ssize_t count;
    struct mutex_object **mutexes; /* sorted, each once */
    struct mutex_object *few[INLINE_MUTEXES];
};

/* The stack of one thread. */
struct cs_thread {
    OBJECT_HEAD
    struct section *top; /* owned */
};

/* -- threads ------------------------------------------------------------------ */

static const char THREAD_KEY[] = "portalocker.pysync.CSThread";

/* What the thread's dict has, found before. A thread that serves several
 * interpreters has several states. */
static _Thread_local struct {
    uint64_t state;
    struct cs_thread *thread; /* borrowed from the dict */
} found;

/* Borrowed; NULL where the thread has none yet. Keeps a raised exception. */
static struct cs_thread *
find_thread(void)
{
    PyThreadState *state = PyThreadState_Get();
    if (found.thread == NULL || found.state != PyThreadState_GetID(state)) {
        PyObject *error, *value, *traceback;
        PyErr_Fetch(&error, &value, &traceback);
        PyObject *dict = PyThreadState_GetDict();
        found.thread = dict == NULL
                           ? NULL
                           : (struct cs_thread *)PyDict_GetItemString(
                                 dict, THREAD_KEY);
        found.state = PyThreadState_GetID(state);
        PyErr_Restore(error, value, traceback);
    }
    return found.thread;
}

/* Borrowed. */
static struct cs_thread *
need_thread(struct module_state *state)
{
    struct cs_thread *thread = find_thread();
    if (thread != NULL) {
        return thread;
    }
    PyObject *dict = PyThreadState_GetDict();
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot begin a section: the thread has no state");
        return NULL;
    }
    thread = (struct cs_thread *)PyType_GenericAlloc(state->thread_type, 0);
    if (thread == NULL) {
        return NULL;
    }
    int failed = PyDict_SetItemString(dict, THREAD_KEY, (PyObject *)thread);
    Py_DECREF(thread);
    if (failed) {
        return NULL;
    }
    found.state = PyThreadState_GetID(PyThreadState_Get());
    return found.thread = thread;
}

/* -- mutexes ------------------------------------------------------------------ */

static bool
unlock_all(struct section *section, Py_ssize_t count)
{
    bool is_done = true;
    while (count-- > 0) {
        is_done = mutex_unlock(&section->mutexes[count]->mutex) && is_done;
    }
    return is_done;
}

static void
note_holder(struct section *section)
{
    unsigned long me = PyThread_get_thread_ident();
    for (Py_ssize_t n = 0; n < section->count; n++) {
        atomic_store_explicit(&section->mutexes[n]->holder, me,
                              memory_order_relaxed);
    }
}

/* Lock all that are free; false, and none, if one is not. */
static bool
try_all(struct section *section)
{
    for (Py_ssize_t n = 0; n < section->count; n++) {
        if (!mutex_try(&section->mutexes[n]->mutex)) {
            unlock_all(section, n);
            return false;
        }
    }
    return true;
}

/* Lock all, one by one; false, and none, with an exception. */
static bool
lock_all(struct section *section)
{
    for (Py_ssize_t n = 0; n < section->count; n++) {
        struct mutex_object *mutex = section->mutexes[n];
        if (mutex_lock(&mutex->mutex, (PyObject *)mutex, NEVER) != DONE) {
            PyObject *error, *value, *traceback;
            PyErr_Fetch(&error, &value, &traceback);
            unlock_all(section, n);
            PyErr_Restore(error, value, traceback);
            return false;
        }
    }
    return true;
}

/* Lock `mutex`, whatever happens: the code that goes on relies on it. The
 * first exception that came meanwhile is put into `error`. */
static void
lock_for_sure(struct mutex_object *mutex, PyObject *error[3])
{
    while (mutex_lock(&mutex->mutex, (PyObject *)mutex, NEVER) != DONE) {
        PyObject *raised[3];
        PyErr_Fetch(&raised[0], &raised[1], &raised[2]);
        bool is_first = error[0] == NULL;
        for (int n = 0; n < 3; n++) {
            if (is_first) {
                error[n] = raised[n];
            }
            else {
                Py_XDECREF(raised[n]);
            }
        }
        /* where there was no memory for a waiter, others have to run */
        Py_BEGIN_ALLOW_THREADS
        Py_END_ALLOW_THREADS
    }
}

struct cs_thread *
sections_suspend(void)
{
    struct cs_thread *thread = find_thread();
    if (thread == NULL) {
        return NULL;
    }
    struct section *section = thread->top;
    for (; section != NULL && section->state != SUSPENDED;
         section = section->outer) {
        if (section->state == HELD) {
            section->state = SUSPENDED;
            if (!unlock_all(section, section->count)) {
                /* somebody else unlocked it: nothing is ours any more */
                PyErr_Clear();
            }
        }
    }
    return thread;
}

bool
sections_resume(struct cs_thread *thread)
{
    struct section *section = thread->top;
    if (section == NULL || section->state != SUSPENDED) {
        return true;
    }
    PyObject *error[3];
    PyErr_Fetch(&error[0], &error[1], &error[2]);
    bool is_new = error[0] == NULL;
    section->state = TAKING;
    for (Py_ssize_t n = 0; n < section->count; n++) {
        lock_for_sure(section->mutexes[n], error);
    }
    note_holder(section);
    section->state = HELD;
    bool has_raised = is_new && error[0] != NULL;
    PyErr_Restore(error[0], error[1], error[2]);
    return !has_raised;
}

/* -- the stack ------------------------------------------------------------------ */

static void
push(struct cs_thread *thread, struct section *section)
{
    section->thread = thread;
    section->outer = thread->top;
    thread->top = (struct section *)Py_NewRef((PyObject *)section);
}

static void
pop(struct cs_thread *thread)
{
    struct section *section = thread->top;
    thread->top = section->outer;
    section->outer = NULL;
    section->thread = NULL;
    section->state = IDLE;
    Py_DECREF(section);
}

static bool
holds_all(struct section *top, struct section *section)
{
    if (top == NULL || top->state != HELD || section->count == 0) {
        return false;
    }
    Py_ssize_t found_ones = 0;
    for (Py_ssize_t n = 0; n < top->count; n++) {
        found_ones += found_ones < section->count
                      && top->mutexes[n] == section->mutexes[found_ones];
    }
    return found_ones == section->count;
}

static bool
begin(struct section *self, struct cs_thread *thread)
{
    if (holds_all(thread->top, self)) {
        self->thread = thread;
        self->state = NESTED;
        return true;
    }
    if (self->count == 0) {
        sections_suspend();
        push(thread, self);
    }
    else if (try_all(self)) {
        push(thread, self);
    }
    else {
        sections_suspend();
        self->state = TAKING;
        push(thread, self);
        if (!lock_all(self)) {
            pop(thread);
            sections_resume(thread);
            return false;
        }
    }
    note_holder(self);
    self->state = HELD;
    return true;
}

static bool
end(struct section *self)
{
    struct cs_thread *thread = find_thread();
    if (self->state == IDLE || self->thread != thread
        || (self->state != NESTED && thread->top != self)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot end: this is not the innermost section of "
                        "this thread");
        return false;
    }
    if (self->state == NESTED) {
        self->state = IDLE;
        self->thread = NULL;
        return true;
    }
    bool is_done = self->state != HELD || unlock_all(self, self->count);
    pop(thread);
    return sections_resume(thread) && is_done;
}

/* -- CriticalSection ------------------------------------------------------------ */

static inline struct section *
as_section(PyObject *self)
{
    return (struct section *)self;
}

static void
forget_mutexes(struct section *self)
{
    while (self->count > 0) {
        Py_DECREF(self->mutexes[--self->count]);
    }
    if (self->mutexes != self->few) {
        PyMem_Free(self->mutexes);
    }
    self->mutexes = self->few;
}

static bool
room_for(struct section *self, Py_ssize_t size)
{
    forget_mutexes(self);
    if (size > INLINE_MUTEXES) {
        self->mutexes
            = PyMem_Calloc((size_t)size, sizeof(struct mutex_object *));
        if (self->mutexes == NULL) {
            self->mutexes = self->few;
            PyErr_NoMemory();
            return false;
        }
    }
    return true;
}

/* Insert in order, unless it is there. */
static bool
want(struct section *self, PyTypeObject *mutex_type, PyObject *mutex)
{
    if (Py_TYPE(mutex) != mutex_type) {
        PyErr_Format(PyExc_TypeError,
                     "cannot begin a section: %R is not a Mutex", mutex);
        return false;
    }
    struct mutex_object *wanted = (struct mutex_object *)mutex;
    Py_ssize_t n = self->count;
    while (n > 0 && (uintptr_t)self->mutexes[n - 1] >= (uintptr_t)wanted) {
        n--;
    }
    if (n < self->count && self->mutexes[n] == wanted) {
        return true;
    }
    memmove(&self->mutexes[n + 1], &self->mutexes[n],
            (size_t)(self->count - n) * sizeof(wanted));
    self->mutexes[n] = (struct mutex_object *)Py_NewRef(mutex);
    self->count++;
    return true;
}

static PyObject *section_call(PyObject *, PyObject *const *, size_t,
                              PyObject *);

static PyObject *
section_new(PyTypeObject *type, PyObject *mutexes, PyObject *keywords)
{
    struct module_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError,
                        "CriticalSection() takes no keyword arguments");
        return NULL;
    }
    struct section *self = as_section(PyType_GenericAlloc(type, 0));
    if (self == NULL) {
        return NULL;
    }
    self->call = section_call;
    self->mutexes = self->few;
    Py_ssize_t size = PyTuple_Size(mutexes);
    bool is_done = room_for(self, size);
    for (Py_ssize_t n = 0; is_done && n < size; n++) {
        is_done = want(self, state->mutex_type, PyTuple_GetItem(mutexes, n));
    }
    if (!is_done) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
section_dealloc(PyObject *self)
{
    forget_mutexes(as_section(self));
    free_object(self);
}

static bool
is_idle_or_error(struct section *self)
{
    if (self->state == IDLE) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "cannot begin: this section has begun already");
    return false;
}

static PyObject *
section_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
             size_t count, PyObject *keywords)
{
    struct section *self = as_section(object);
    int call = context_call(count, keywords);
    if (call == EXITS) {
        return none_if(end(self));
    }
    if (call != ENTERS || !is_idle_or_error(self)) {
        return NULL;
    }
    struct cs_thread *thread = find_thread();
    if (thread == NULL) {
        struct module_state *state = PyType_GetModuleState(Py_TYPE(object));
        thread = state == NULL ? NULL : need_thread(state);
    }
    return thread != NULL && begin(self, thread) ? Py_NewRef(object) : NULL;
}

/* `given` is None, or has to be this thread's. */
static bool
is_this_thread(PyObject *given, struct cs_thread *thread)
{
    if (given == NULL || given == Py_None || given == (PyObject *)thread) {
        return true;
    }
    PyErr_SetString(
        PyExc_RuntimeError,
        "cannot begin or end: a section belongs to the thread that runs");
    return false;
}

/* begin(mutex, ...) and begin_mutex2(first, second, ...) */
static PyObject *
begin_with(PyObject *object, PyTypeObject *defining, PyObject **mutexes,
           Py_ssize_t size, PyObject *given)
{
    struct section *self = as_section(object);
    struct module_state *state = PyType_GetModuleState(defining);
    if (state == NULL) {
        return NULL;
    }
    struct cs_thread *thread = need_thread(state);
    if (thread == NULL || !is_this_thread(given, thread)
        || !is_idle_or_error(self) || !room_for(self, size)) {
        return NULL;
    }
    for (Py_ssize_t n = 0; n < size; n++) {
        if (!want(self, state->mutex_type, mutexes[n])) {
            return NULL;
        }
    }
    return none_if(begin(self, thread));
}

static PyObject *
section_begin(PyObject *self, PyTypeObject *defining,
              PyObject *const *arguments, Py_ssize_t count,
              PyObject *keywords)
{
    static const char *const names[] = {"mutex", "thread", NULL};
    PyObject *values[2];
    if (!take_arguments("begin", names, 1, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 1, values[1]);
}

static PyObject *
section_begin_mutex2(PyObject *self, PyTypeObject *defining,
                     PyObject *const *arguments, Py_ssize_t count,
                     PyObject *keywords)
{
    static const char *const names[] = {"first", "second", "thread", NULL};
    PyObject *values[3];
    if (!take_arguments("begin_mutex2", names, 2, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 2, values[2]);
}

static PyObject *
section_end(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
            PyObject *keywords)
{
    static const char *const names[] = {"thread", NULL};
    PyObject *given;
    if (!take_arguments("end", names, 0, arguments, count, keywords, &given)
        || !is_this_thread(given, find_thread())) {
        return NULL;
    }
    return none_if(end(as_section(self)));
}

static PyObject *
section_repr(PyObject *self)
{
    static const char *const words[]
        = {"idle", "suspended", "held", "suspended", "nested"};
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.CriticalSection object at %p>",
        words[as_section(self)->state], self);
}

PyDoc_STRVAR(section_doc,
"CriticalSection(*mutexes)\n--\n\n"
"Holds its mutexes, except while its thread sleeps in a lock.");

static PyMethodDef section_methods[] = {
    {"begin", OF_CLASS(section_begin),
     PyDoc_STR("begin($self, mutex, thread=None)\n--\n\n"
               "Begin to hold `mutex`.")},
    {"begin_mutex2", OF_CLASS(section_begin_mutex2),
     PyDoc_STR("begin_mutex2($self, first, second, thread=None)\n--\n\n"
               "Begin to hold both.")},
    {"end", KEYWORDS(section_end),
     PyDoc_STR("end($self, thread=None)\n--\n\n"
               "Unlock them; the section around this one holds its own "
               "again.")},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot section_slots[] = {
    {Py_tp_doc, (char *)section_doc},
    {Py_tp_new, section_new},
    {Py_tp_dealloc, section_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, section_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, section_methods},
    {0, NULL},
};

static PyType_Spec section_spec = {
    .name = "portalocker.pysync.CriticalSection",
    .basicsize = sizeof(struct section),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = section_slots,
};

/* -- CSThread -------------------------------------------------------------------- */

static PyObject *
thread_top(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *top = (PyObject *)((struct cs_thread *)self)->top;
    return Py_NewRef(top == NULL ? Py_None : top);
}

static PyObject *
thread_current(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    struct module_state *state = PyType_GetModuleState((PyTypeObject *)type);
    return state == NULL ? NULL
                         : Py_XNewRef((PyObject *)need_thread(state));
}

static void
thread_dealloc(PyObject *object)
{
    struct cs_thread *self = (struct cs_thread *)object;
    /* what the thread left begun stays locked, as any lock would */
    while (self->top != NULL) {
        pop(self);
    }
    free_object(object);
}

static PyMethodDef thread_methods[] = {
    {"current", thread_current, METH_NOARGS | METH_CLASS,
     PyDoc_STR("current()\n--\n\nThe stack of the thread that runs.")},
    {"top", thread_top, METH_NOARGS,
     PyDoc_STR("top($self)\n--\n\nThe innermost section, or None.")},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(thread_doc,
"The critical sections that one thread has begun.");

static PyType_Slot thread_slots[] = {
    {Py_tp_doc, (char *)thread_doc},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_members, object_members},
    {Py_tp_methods, thread_methods},
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "portalocker.pysync.CSThread",
    .basicsize = sizeof(struct cs_thread),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = thread_slots,
};

int
add_sections(PyObject *module)
{
    return add_type(module, "CSThread", &thread_spec,
                    &module_state(module)->thread_type)
                       < 0
                   || add_context_type(module, "CriticalSection",
                                       &section_spec, NULL)
                          < 0
               ? -1
               : 0;
}
