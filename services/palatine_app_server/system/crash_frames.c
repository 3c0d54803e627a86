/* The C frames of a process that dies of a fault, as uWSGI's log has them. The compiled build's only, and optional.
 *
 * install(fd) is called before faulthandler.enable(): that one says the Python frames, then raises the signal again for
 * whoever was there before, which is us. Nothing runs and nothing is held before a crash. In the handler nothing is
 * allocated; backtrace(3) has been called once before, for it loads its library then. What hangs all the same (a full
 * pipe, a lock the crash left behind) is ended by SIGALRM, still by the first signal.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define MOST_FRAMES 256
#define LATEST_SECONDS 5

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
static volatile int output = 2;
static volatile sig_atomic_t fault;
static atomic_flag begun = ATOMIC_FLAG_INIT;

static void die(void)
{
    sigset_t one;
    signal(fault, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, fault);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    kill(getpid(), fault);
    for (;;)
        pause();
}

static void say(const char *text, size_t length)
{
    while (length) {
        ssize_t written = write(output, text, length);
        if (written <= 0)
            return;
        text += written;
        length -= written;
    }
}

static void too_late(int number)
{
    (void)number;
    die();
}

static void crashed(int number)
{
    static void *frames[MOST_FRAMES];
    static char head[64] = "*** backtrace of ";
    static const char foot[] = "*** end of backtrace ***\n";
    char digits[16];
    size_t at = sizeof digits, length;
    long pid = getpid();
    struct sigaction alarmed = {.sa_handler = too_late, .sa_flags = SA_ONSTACK};
    sigset_t one;

    if (atomic_flag_test_and_set(&begun)) /* another thread: the first speaks for all */
        for (;;)
            pause();
    fault = number;
    sigaction(SIGALRM, &alarmed, NULL);
    sigemptyset(&one);
    sigaddset(&one, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    alarm(LATEST_SECONDS);
    do
        digits[--at] = '0' + pid % 10;
    while (pid /= 10);
    length = strlen(head);
    memcpy(head + length, digits + at, sizeof digits - at);
    length += sizeof digits - at;
    memcpy(head + length, " ***\n", 5);
    say(head, length + 5);
    backtrace_symbols_fd(frames, backtrace(frames, MOST_FRAMES), output);
    say(foot, sizeof foot - 1);
    die();
}

static PyObject *install(PyObject *self, PyObject *argument)
{
    struct sigaction action = {.sa_handler = crashed, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESETHAND};
    void *frame[1];
    long fd = PyLong_AsLong(argument);

    (void)self;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    output = (int)fd;
    backtrace(frame, 1);
    for (size_t each = 0; each < sizeof faults / sizeof *faults; each++)
        if (sigaction(faults[each], &action, NULL))
            return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", install, METH_O, "Write the C frames of a fault to descriptor `fd`, then die of it. OSError."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "crash_frames", "C frames of a process that dies of a fault.", -1, methods,
};

PyMODINIT_FUNC PyInit_crash_frames(void)
{
    return PyModule_Create(&module);
}
