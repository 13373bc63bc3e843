/* CriticalSection: mutexes that are given back while their thread sleeps.
 *
 * After PEP 703. Each thread has a stack of sections. Whoever has to sleep, in
 * whatever lock of this package, unlocks the mutexes of all its sections
 * first, and locks those of the innermost again afterwards: so nobody sleeps
 * with a mutex that the other one wants. Mutexes are taken in the order of
 * their addresses.
 */
#include "_native_section.h"

/* -- threads ------------------------------------------------------------------ */

static const char THREAD_KEY[] = "portalocker.pysync.CSThread";

/* What the thread's dict has, found before. A thread that serves several
 * interpreters has a state in each, and their numbers are each interpreter's
 * own. */
static _Thread_local struct {
    int64_t interpreter;
    uint64_t state;
    struct cs_thread *thread; /* borrowed from the dict */
} found;

static bool
is_found(PyThreadState *state)
{
    return found.thread != NULL && found.state == PyThreadState_GetID(state)
           && found.interpreter
                  == PyInterpreterState_GetID(
                      PyThreadState_GetInterpreter(state));
}

static struct cs_thread *
note_found(PyThreadState *state, struct cs_thread *thread)
{
    found.state = PyThreadState_GetID(state);
    found.interpreter
        = PyInterpreterState_GetID(PyThreadState_GetInterpreter(state));
    return found.thread = thread;
}

/* The dict has a capsule, which nobody else can keep: when it goes, with the
 * thread, whatever the thread's last destructors do finds nothing here. */
static void
forget_thread(PyObject *capsule)
{
    PyObject *thread = PyCapsule_GetPointer(capsule, THREAD_KEY);
    if ((PyObject *)found.thread == thread) {
        found.thread = NULL;
    }
    Py_XDECREF(thread);
}

struct cs_thread *
find_thread(void)
{
    PyThreadState *state = PyThreadState_Get();
    if (!is_found(state)) {
        PyObject *error, *value, *traceback;
        PyErr_Fetch(&error, &value, &traceback);
        PyObject *dict = PyThreadState_GetDict();
        PyObject *capsule
            = dict == NULL ? NULL : PyDict_GetItemString(dict, THREAD_KEY);
        note_found(state, capsule == NULL
                              ? NULL
                              : PyCapsule_GetPointer(capsule, THREAD_KEY));
        PyErr_Restore(error, value, traceback);
    }
    return found.thread;
}

struct cs_thread *
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
    thread = (struct cs_thread *)allocate(state->thread_type);
    if (thread == NULL) {
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(thread, THREAD_KEY, forget_thread);
    if (capsule == NULL) {
        Py_DECREF(thread);
        return NULL;
    }
    int failed = PyDict_SetItemString(dict, THREAD_KEY, capsule);
    Py_DECREF(capsule);
    return failed ? NULL : note_found(PyThreadState_Get(), thread);
}

/* -- mutexes ------------------------------------------------------------------ */

static bool
unlock_all(struct mutex_set *set, Py_ssize_t count)
{
    bool is_done = true;
    while (count-- > 0) {
        is_done = mutex_unlock(&set->mutexes[count]->mutex) && is_done;
    }
    return is_done;
}

static void
note_holder(struct mutex_set *set)
{
    unsigned long me = PyThread_get_thread_ident();
    for (Py_ssize_t n = 0; n < set->count; n++) {
        atomic_store_explicit(&set->mutexes[n]->holder, me,
                              memory_order_relaxed);
    }
}

/* Lock all that are free; false, and none, if one is not. */
static bool
try_all(struct mutex_set *set)
{
    for (Py_ssize_t n = 0; n < set->count; n++) {
        if (!mutex_try(&set->mutexes[n]->mutex)) {
            unlock_all(set, n);
            return false;
        }
    }
    return true;
}

/* Lock all, one by one; false, and none, with an exception. */
static bool
lock_all(struct mutex_set *set)
{
    for (Py_ssize_t n = 0; n < set->count; n++) {
        struct mutex_object *mutex = set->mutexes[n];
        if (mutex_lock(&mutex->mutex, (PyObject *)mutex, NEVER) != DONE) {
            PyObject *error, *value, *traceback;
            PyErr_Fetch(&error, &value, &traceback);
            unlock_all(set, n);
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
    for (; section != NULL && state_of(section) != SUSPENDED;
         section = section->outer) {
        if (state_of(section) == HELD) {
            set_state(section, SUSPENDED);
            if (!unlock_all(section->wanted, section->wanted->count)) {
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
    if (section == NULL || state_of(section) != SUSPENDED) {
        return true;
    }
    PyObject *error[3];
    PyErr_Fetch(&error[0], &error[1], &error[2]);
    bool is_new = error[0] == NULL;
    set_state(section, TAKING);
    for (Py_ssize_t n = 0; n < section->wanted->count; n++) {
        lock_for_sure(section->wanted->mutexes[n], error);
    }
    note_holder(section->wanted);
    set_state(section, HELD);
    bool has_raised = is_new && error[0] != NULL;
    PyErr_Restore(error[0], error[1], error[2]);
    return !has_raised;
}

/* -- the stack ------------------------------------------------------------------ */

static void
push(struct cs_thread *thread, struct section *section)
{
    set_thread(section, thread);
    section->outer = thread->top;
    thread->top = (struct section *)Py_NewRef((PyObject *)section);
}

void
section_pop(struct cs_thread *thread)
{
    struct section *section = thread->top;
    thread->top = section->outer;
    section->outer = NULL;
    set_thread(section, NULL);
    set_state(section, IDLE);
    Py_DECREF(section);
}

static bool
holds_all(struct section *top, const struct mutex_set *set)
{
    if (top == NULL || state_of(top) != HELD || set->count == 0) {
        return false;
    }
    Py_ssize_t found_ones = 0;
    for (Py_ssize_t n = 0; n < top->wanted->count; n++) {
        found_ones += found_ones < set->count
                      && top->wanted->mutexes[n] == set->mutexes[found_ones];
    }
    return found_ones == set->count;
}

bool
section_enter(struct section *self, struct cs_thread *thread,
              struct mutex_set *set)
{
    if (holds_all(thread->top, set)) {
        set_thread(self, thread);
        set_state(self, NESTED);
        return true;
    }
    self->wanted = set;
    if (set->count == 0) {
        sections_suspend();
        push(thread, self);
    }
    else if (try_all(set)) {
        push(thread, self);
    }
    else {
        sections_suspend();
        push(thread, self);
        if (!lock_all(set)) {
            section_pop(thread);
            sections_resume(thread);
            return false;
        }
    }
    note_holder(set);
    set_state(self, HELD);
    return true;
}

bool
section_leave(struct section *self)
{
    struct cs_thread *thread = find_thread();
    if (thread == NULL || thread_of(self) != thread
        || (state_of(self) != NESTED && thread->top != self)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot end: this is not the innermost section of "
                        "this thread");
        return false;
    }
    if (state_of(self) == NESTED) {
        set_thread(self, NULL);
        set_state(self, IDLE);
        return true;
    }
    bool is_done = state_of(self) != HELD
                   || unlock_all(self->wanted, self->wanted->count);
    section_pop(thread);
    return sections_resume(thread) && is_done;
}
