/* A stand-in for libnvidia-ml.so.1, so that the true nvidia-ml-py binding can be tested without a GPU.
 *
 * In: a scenario file named by TOKENYIELD_NVML_SCENARIO (see scenario_path), read at every nvmlInit; in a container, and with
 * TOKENYIELD_NVML_FOLLOWS, also when another has been put in its place. Out: the NVML functions the agent
 * calls, with the signatures and error codes of NVIDIA's nvml.h. Time runs on CLOCK_MONOTONIC from the scenario's
 * `epoch`, so several processes, and one restarted, see the same GPUs at the same moment.
 *
 * Scenario, one statement a line, '#' begins a comment, times in seconds since the epoch:
 *   epoch SECONDS                              CLOCK_MONOTONIC at time 0 (default 0)
 *   gpu I UUID MODEL MEMORY_MIB BASE_ENERGY_MJ [mig]   a UUID of - is none
 *   minor I N                                  its device file is /dev/nvidiaN (I where not told)
 *   power I FROM MILLIWATTS                    from FROM on; energy is its integral
 *   util I FROM PERCENT
 *   used I FROM MEMORY_MIB
 *   temp I FROM CELSIUS
 *   throttle I FROM BITS
 *   proc I PID MEMORY_MIB SM_PERCENT FROM TO [INSTANCE]   a compute process on the GPU, or on a GPU instance of it
 *   mig I INSTANCE SLICES [SM TENSOR DRAM MIB] a MIG device of the GPU, its activity in permille and its memory used
 *   clock I FROM MHZ                           of the SMs (1980 where not told; that is the highest, too)
 *   sm|tensor|dram I FROM PERMILLE             activity, as GPM tells its mean between two samples
 *   nvlink|pcie I FROM MIB_PER_SECOND          in each direction
 *   field I FROM ID VALUE                      a field value that only counts, from FROM on (ECC, remapped rows, ...)
 *   xid I AT CODE                              an event of this kind
 *   sampling I PERIOD_MS ENTRIES               how often the sensor writes into the buffer of samples, and its length
 *   slow I FIELD FROM TO MS                    calls of this kind take so long
 *   unsupported I FIELD                        energy power util memory temp clock throttle procs procutil samples
 *                                              average instant gpm events fields
 *   fault I FROM TO CODE [FIELD]               every call on this GPU (or those of FIELD) returns CODE (15 lost, 16 reset
 *                                              required); FIELD as above, or open uuid name mig limit
 *   value I FROM TO FIELD NUMBER               calls of FIELD give NUMBER, whatever is true: energy power util used memory
 *                                              temp clock procs (pid) procmem procutil limit gpm (nan, inf too) stamp
 *                                              (of samples and fields, us) slices; NUMBER up to 2^64-1
 *   queue FROM TO CODE                         nvmlEventSetWait returns CODE while a lost GPU (fault 15) is registered
 *   driver FROM TO CODE                        every call, nvmlInit too, returns CODE (9 not loaded)
 *   hang I FROM TO                             a call on this GPU that is made then returns at TO
 *   reload AT                                  the driver is reloaded: energy counters start again at 0
 *   present I FROM TO                          the GPU is there only then; seen at the next nvmlInit (hot-plug)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { GPUS = 16, ROWS = 2048, HANG = -1 };
enum { POWER, UTIL, USED, TEMP, THROTTLE, CLOCK, SM, TENSOR, DRAM, NVLINK, PCIE, CURVES };
enum { F_ENERGY = 1, F_POWER = 2, F_UTIL = 4, F_MEMORY = 8, F_TEMP = 16, F_CLOCK = 32, F_THROTTLE = 64, F_PROCS = 128,
       F_PROCUTIL = 256, F_SAMPLES = 512, F_AVERAGE = 1024, F_INSTANT = 2048, F_GPM = 4096, F_EVENTS = 8192,
       F_FIELDS = 16384, F_OPEN = 1 << 15, F_UUID = 1 << 16, F_NAME = 1 << 17, F_MIG = 1 << 18, F_LIMIT = 1 << 19,
       F_USED = 1 << 20, F_PROCMEM = 1 << 21, F_STAMP = 1 << 22, F_SLICES = 1 << 23 };

typedef struct { int gpu, curve; double from; long long value; } Step;
typedef struct { int gpu; unsigned pid; long long mib; unsigned sm; double from, to; unsigned instance; } Process;
typedef struct { int gpu; unsigned instance, slices; int sm, tensor, dram; long long mib; } Mig;
typedef struct { int gpu, code; double from, to; int field; } Fault;
typedef struct { int gpu, field; double from, to; unsigned long long value; double real; } Override;
typedef struct { int gpu, field; double from, to, ms; } Slow;
typedef struct { int gpu; double from; unsigned id; long long value; } FieldStep;
typedef struct { int gpu; double at; unsigned long long code; int told; } Xid;
typedef struct { int defined, minor, mig, unsupported, sampling_ms, entries; char uuid[96], model[96]; long long mib, base_mj; double from, to; } Gpu;

static Gpu gpus[GPUS];
static Step steps[ROWS];
static Process processes[ROWS];
static Fault faults[ROWS];
static Override overrides[ROWS];
static Fault queue_fault;
static int override_count;
static Mig migs[ROWS];
static Slow slows[ROWS];
static FieldStep fields[ROWS];
static Xid xids[ROWS];
static int mig_count, slow_count, field_count, xid_count;
static int step_count, process_count, fault_count, references;
static double epoch, reload_at, test_time = -1;
static int order[GPUS], order_count; /* the GPUs found by the last nvmlInit */

/* Of the scenario. The other is for containers, into which `kubectl exec` brings no environment but that of their image and pod. */
static const char *scenario_path(void) {
    const char *path = getenv("TOKENYIELD_NVML_SCENARIO");
    return path ? path : "/run/nvml-stand-in/scenario.txt";
}

static ino_t loaded; /* of the scenario */

/* CLOCK_MONOTONIC, or where a test in the same process keeps the time, the time of that test. */
static double monotonic(void) {
    if (test_time >= 0) return test_time;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static double now(void) { return monotonic() - epoch; }
static void pass(double ms) {
    if (test_time >= 0) test_time += ms / 1e3;
    else nanosleep(&(struct timespec){(long)(ms / 1e3), (long)(ms * 1e6) % 1000000000}, NULL);
}

/* For a test in the same process: from now on it is `seconds`, and only what takes time here lets time pass; below 0 the
 * machine's clock counts again. */
void stand_in_set_time(double seconds) { test_time = seconds; }
double stand_in_time(void) { return monotonic(); }

static int init_count, device = -1; /* the scenario stands for /dev/nvidia0: it is open as long as the driver is */
int stand_in_inits(void) { return init_count; }

static int field_bit(const char *name) {
    static const char *names[] = {"energy", "power", "util", "memory", "temp", "clock", "throttle", "procs", "procutil",
                                  "samples", "average", "instant", "gpm", "events", "fields", "open", "uuid", "name",
                                  "mig", "limit", "used", "procmem", "stamp", "slices"};
    for (int i = 0; i < 24; i++) if (!strcmp(name, names[i])) return 1 << i;
    return 0;
}

static int load(void) {
    FILE *file = fopen(scenario_path(), "r");
    if (!file) return 9;
    struct stat status;
    if (!fstat(fileno(file), &status)) loaded = status.st_ino;
    memset(gpus, 0, sizeof gpus);
    mig_count = step_count = process_count = fault_count = slow_count = field_count = xid_count = 0;
    override_count = 0;
    queue_fault = (Fault){0};
    epoch = 0;
    reload_at = -1;
    char line[512], name[96], model[96], mig[16];
    while (fgets(line, sizeof line, file)) {
        int i = 0;
        double from, to, ms;
        long long a, b;
        unsigned pid, sm;
        static const char *curves[] = {"power", "util", "used", "temp", "throttle", "clock", "sm", "tensor", "dram",
                                       "nvlink", "pcie"};
        if (sscanf(line, "epoch %lf", &epoch) == 1) continue;
        if (sscanf(line, "reload %lf", &reload_at) == 1) continue;
        mig[0] = 0;
        if (sscanf(line, "gpu %d %95s %95s %lld %lld %15s", &i, name, model, &a, &b, mig) >= 5 && i >= 0 && i < GPUS) {
            gpus[i].defined = 1;
            gpus[i].minor = i;
            gpus[i].mig = !strcmp(mig, "mig");
            strcpy(gpus[i].uuid, name);
            strcpy(gpus[i].model, model);
            for (char *c = gpus[i].model; *c; c++) if (*c == '_') *c = ' ';
            gpus[i].mib = a;
            gpus[i].base_mj = b;
            gpus[i].to = 1e18;
            gpus[i].sampling_ms = 100;
            gpus[i].entries = 120;
            continue;
        }
        unsigned instance = 0xffffffffu;
        if (sscanf(line, "minor %d %lld", &i, &a) == 2 && i >= 0 && i < GPUS) {
            gpus[i].minor = (int)a;
            continue;
        }
        if (sscanf(line, "proc %d %u %lld %u %lf %lf %u", &i, &pid, &a, &sm, &from, &to, &instance) >= 6 && process_count < ROWS) {
            processes[process_count++] = (Process){i, pid, a, sm, from, to, instance};
            continue;
        }
        Mig own = {0};
        if (sscanf(line, "mig %d %u %u %d %d %d %lld", &own.gpu, &own.instance, &own.slices, &own.sm, &own.tensor,
                   &own.dram, &own.mib) >= 3 && mig_count < ROWS) {
            migs[mig_count++] = own;
            continue;
        }
        if (sscanf(line, "field %d %lf %u %lld", &i, &from, &pid, &a) == 4 && field_count < ROWS) {
            fields[field_count++] = (FieldStep){i, from, pid, a};
            continue;
        }
        if (sscanf(line, "xid %d %lf %lld", &i, &from, &a) == 3 && xid_count < ROWS) {
            xids[xid_count++] = (Xid){i, from, (unsigned long long)a, from < now()};
            continue;
        }
        int entries;
        if (sscanf(line, "sampling %d %lld %d", &i, &a, &entries) == 3 && i >= 0 && i < GPUS) {
            gpus[i].sampling_ms = (int)a;
            gpus[i].entries = entries;
            continue;
        }
        if (sscanf(line, "slow %d %95s %lf %lf %lf", &i, name, &from, &to, &ms) == 5 && slow_count < ROWS) {
            slows[slow_count++] = (Slow){i, field_bit(name), from, to, ms};
            continue;
        }
        if (sscanf(line, "unsupported %d %95s", &i, name) == 2 && i >= 0 && i < GPUS) {
            gpus[i].unsupported |= field_bit(name);
            continue;
        }
        name[0] = 0;
        if (sscanf(line, "fault %d %lf %lf %lld %95s", &i, &from, &to, &a, name) >= 4 && fault_count < ROWS) {
            faults[fault_count++] = (Fault){i, (int)a, from, to, name[0] ? field_bit(name) : 0};
            continue;
        }
        model[0] = 0;
        if (sscanf(line, "value %d %lf %lf %95s %95s", &i, &from, &to, name, model) == 5 && override_count < ROWS) {
            overrides[override_count++] = (Override){i, field_bit(name), from, to, strtoull(model, NULL, 10), strtod(model, NULL)};
            continue;
        }
        if (sscanf(line, "queue %lf %lf %lld", &from, &to, &a) == 3) {
            queue_fault = (Fault){-1, (int)a, from, to, 0};
            continue;
        }
        if (sscanf(line, "hang %d %lf %lf", &i, &from, &to) == 3 && fault_count < ROWS) {
            faults[fault_count++] = (Fault){i, HANG, from, to, 0};
            continue;
        }
        if (sscanf(line, "driver %lf %lf %lld", &from, &to, &a) == 3 && fault_count < ROWS) {
            faults[fault_count++] = (Fault){-1, (int)a, from, to, 0};
            continue;
        }
        if (sscanf(line, "present %d %lf %lf", &i, &from, &to) == 3 && i >= 0 && i < GPUS) {
            gpus[i].from = from;
            gpus[i].to = to;
            continue;
        }
        for (int curve = 0; curve < CURVES; curve++) {
            char format[64];
            snprintf(format, sizeof format, "%s %%d %%lf %%lld", curves[curve]);
            if (sscanf(line, format, &i, &from, &a) == 3 && step_count < ROWS)
                steps[step_count++] = (Step){i, curve, from, a};
        }
    }
    fclose(file);
    return OK;
}

static int fault_of_call(int gpu, double t, int field) {
    for (int i = 0; i < fault_count; i++)
        if (faults[i].gpu == gpu && t >= faults[i].from && t < faults[i].to && (!faults[i].field || faults[i].field & field))
            return faults[i].code;
    return OK;
}
static int fault_of(int gpu, double t) { return fault_of_call(gpu, t, 0); }

static const Override *override_of(int gpu, int field) {
    double t = now();
    for (int i = 0; i < override_count; i++)
        if (overrides[i].gpu == gpu && overrides[i].field & field && t >= overrides[i].from && t < overrides[i].to)
            return &overrides[i];
    return NULL;
}
static unsigned long long shown(int gpu, int field, unsigned long long truth) {
    const Override *override = override_of(gpu, field);
    return override ? override->value : truth;
}

static int fault_after_hang(int gpu, int field) {
    int fault;
    while ((fault = fault_of_call(gpu, now(), field)) == HANG) pass(10);
    return fault;
}

static long long curve_at(int gpu, int curve, double t) {
    long long value = curve == CLOCK ? 1980 : 0;
    double latest = -1;
    for (int i = 0; i < step_count; i++)
        if (steps[i].gpu == gpu && steps[i].curve == curve && steps[i].from <= t && steps[i].from >= latest) {
            latest = steps[i].from;
            value = steps[i].value;
        }
    return value;
}

/* Integral of a curve over [from, to); of power mW x s = mJ. Steps may stand in any order. */
static double integral(int gpu, int curve, double from, double to) {
    double sum = 0, at = from;
    while (at < to) {
        double next = to;
        for (int i = 0; i < step_count; i++)
            if (steps[i].gpu == gpu && steps[i].curve == curve && steps[i].from > at && steps[i].from < next)
                next = steps[i].from;
        sum += curve_at(gpu, curve, at) * (next - at);
        at = next;
    }
    return sum;
}

static double mean(int gpu, int curve, double from, double to) {
    return to > from ? integral(gpu, curve, from, to) / (to - from) : curve_at(gpu, curve, to);
}

/* The CPU time stamp of NVML's samples and field values, in microseconds, of an instant of ours. */
static unsigned long long stamp(double t) {
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    double ahead = (wall.tv_sec - mono.tv_sec) + (wall.tv_nsec - mono.tv_nsec) / 1e9;
    return (unsigned long long)((t + epoch + ahead) * 1e6);
}

static int check(void *handle, int field) {
    if (!references) return UNINITIALIZED;
    double t = now();
    int driver = fault_of(-1, t);
    if (driver) return driver;
    long gpu = (long)handle - 1;
    if (gpu < 0 || gpu >= GPUS || !gpus[gpu].defined) return INVALID_ARGUMENT;
    int fault = fault_after_hang((int)gpu, field);
    if (fault) return fault;
    t = now();
    if (t < gpus[gpu].from || t >= gpus[gpu].to) return 15;
    for (int i = 0; i < slow_count; i++)
        if (slows[i].gpu == gpu && slows[i].field & field && t >= slows[i].from && t < slows[i].to)
            pass(slows[i].ms);
    return gpus[gpu].unsupported & field ? NOT_SUPPORTED : OK;
}
/* Pods come and go while the agent runs. */
static void follow(void) {
    struct stat status;
    if ((!getenv("TOKENYIELD_NVML_SCENARIO") || getenv("TOKENYIELD_NVML_FOLLOWS")) && !stat(scenario_path(), &status) && status.st_ino != loaded) load();
}
#define CHECK(handle, field) do { int fault_ = check(handle, field); if (fault_) return fault_; } while (0)
#define INDEX(handle) ((int)((long)(handle) - 1))

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!references) {
        int fault = load();
        if (fault) return fault;
        fault = fault_of(-1, now());
        if (fault) return fault;
        order_count = 0;
        for (int i = 0; i < GPUS; i++)
            if (gpus[i].defined && now() >= gpus[i].from && now() < gpus[i].to) order[order_count++] = i;
    }
    if (!references++) device = open(scenario_path(), O_RDONLY);
    init_count++;
    return OK;
}

int nvmlShutdown(void) {
    if (!references) return UNINITIALIZED;
    if (!--references && device >= 0) close(device);
    return OK;
}

const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 10: return "Timeout";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    if (!references) return UNINITIALIZED;
    snprintf(version, length, "550.00.stand-in");
    return OK;
}

int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    if (!references) return UNINITIALIZED;
    snprintf(version, length, "12.550.00.stand-in");
    return OK;
}

int nvmlSystemGetCudaDriverVersion(int *version) {
    *version = 12040;
    return references ? OK : UNINITIALIZED;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!references) return UNINITIALIZED;
    int driver = fault_of(-1, now());
    if (driver) return driver;
    *count = order_count;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!references) return UNINITIALIZED;
    int driver = fault_of(-1, now());
    if (driver) return driver;
    if ((int)index >= order_count) return INVALID_ARGUMENT;
    int fault = fault_after_hang(order[index], F_OPEN);
    if (fault) return fault;
    *handle = (void *)(long)(order[index] + 1);
    return OK;
}

int nvmlDeviceGetIndex(void *handle, unsigned *index) {
    CHECK(handle, 0);
    *index = INDEX(handle);
    return OK;
}

int nvmlDeviceGetMinorNumber(void *handle, unsigned *number) {
    CHECK(handle, 0);
    *number = (unsigned)gpus[INDEX(handle)].minor;
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    CHECK(handle, F_UUID);
    const char *own = gpus[INDEX(handle)].uuid;
    snprintf(uuid, length, "%s", strcmp(own, "-") ? own : "");
    return OK;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    CHECK(handle, F_NAME);
    snprintf(name, length, "%s", gpus[INDEX(handle)].model);
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    CHECK(handle, F_ENERGY);
    int gpu = INDEX(handle);
    double t = now();
    int reloaded = reload_at >= 0 && t >= reload_at;
    *energy = (unsigned long long)((reloaded ? 0 : gpus[gpu].base_mj) + integral(gpu, POWER, reloaded ? reload_at : 0, t));
    *energy = shown(gpu, F_ENERGY, *energy);
    return OK;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    CHECK(handle, F_POWER);
    *milliwatts = (unsigned)shown(INDEX(handle), F_POWER, curve_at(INDEX(handle), POWER, now()));
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    CHECK(handle, F_POWER | F_LIMIT);
    *milliwatts = (unsigned)shown(INDEX(handle), F_LIMIT, 700000);
    return OK;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *lowest, unsigned *highest) {
    *lowest = 200000;
    return nvmlDeviceGetEnforcedPowerLimit(handle, highest);
}
int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *milliwatts) {
    return nvmlDeviceGetEnforcedPowerLimit(handle, milliwatts);
}

/* --- samples, field values, GPM and events ------------------------------------------------------------------------ */

typedef union { double d; unsigned u; unsigned long ul; unsigned long long ull; } Value;
typedef struct { unsigned long long stamp; Value value; } Sample;
typedef struct { unsigned id, scope; long long stamp, latency_us; int type, code; Value value; } FieldValue;
enum { TYPE_UNSIGNED = 1, TYPE_ULL = 3, TOTAL_POWER_SAMPLES = 0 };

int nvmlDeviceGetSamples(void *handle, int kind, unsigned long long since, int *type, unsigned *count, Sample *out) {
    CHECK(handle, F_SAMPLES | F_POWER);
    if (kind != TOTAL_POWER_SAMPLES) return NOT_SUPPORTED;
    int gpu = INDEX(handle);
    if (!out) { /* as the driver does: the size of its buffer, whatever is new */
        *count = (unsigned)gpus[gpu].entries;
        return OK;
    }
    double period = gpus[gpu].sampling_ms / 1e3, t = now();
    long long newest = (long long)(t / period);
    unsigned found = 0;
    for (long long k = newest - gpus[gpu].entries + 1 > 0 ? newest - gpus[gpu].entries + 1 : 0; k <= newest; k++) {
        unsigned long long at = shown(gpu, F_STAMP, stamp(k * period));
        if (at <= since + 2 || found >= *count) continue; /* two clocks are read for a stamp, which so wavers by one or two */
        out[found].stamp = at;
        out[found++].value.u = (unsigned)shown(gpu, F_SAMPLES, curve_at(gpu, POWER, k * period));
    }
    *type = TYPE_UNSIGNED;
    *count = found;
    return found ? OK : NOT_FOUND;
}

int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *values) {
    CHECK(handle, F_FIELDS);
    int gpu = INDEX(handle);
    double t = now();
    for (int i = 0; i < count; i++) {
        FieldValue *value = &values[i];
        value->stamp = (long long)shown(gpu, F_STAMP, stamp(t));
        value->latency_us = 1;
        value->type = TYPE_ULL;
        value->value.ull = 0;
        value->code = NOT_SUPPORTED;
        int missing = gpus[gpu].unsupported;
        if (value->id == 83 && !(missing & F_ENERGY)) {
            value->code = nvmlDeviceGetTotalEnergyConsumption(handle, &value->value.ull);
        } else if (value->id == 185 && !(missing & (F_AVERAGE | F_POWER))) { /* over the last second */
            value->type = TYPE_UNSIGNED;
            value->value.u = (unsigned)shown(gpu, F_AVERAGE, (unsigned long long)mean(gpu, POWER, t > 1 ? t - 1 : 0, t));
            value->code = OK;
        } else if (value->id == 186 && !(missing & (F_INSTANT | F_POWER))) {
            value->type = TYPE_UNSIGNED;
            value->value.u = (unsigned)shown(gpu, F_INSTANT, curve_at(gpu, POWER, t));
            value->code = OK;
        } else {
            double latest = -1;
            for (int k = 0; k < field_count; k++)
                if (fields[k].gpu == gpu && fields[k].id == value->id && fields[k].from <= t && fields[k].from >= latest) {
                    latest = fields[k].from;
                    value->value.ull = (unsigned long long)fields[k].value;
                    value->code = OK;
                }
        }
    }
    return OK;
}

typedef struct { int gpu, instance; double at; } GpmSample;
typedef struct { unsigned id; int code; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *first, *second; GpmMetric metrics[]; } GpmMetrics;
typedef struct { unsigned version, supported; } GpmSupport;

int nvmlGpmQueryDeviceSupport(void *handle, GpmSupport *support) {
    CHECK(handle, 0);
    support->supported = !(gpus[INDEX(handle)].unsupported & F_GPM);
    return OK;
}

int nvmlGpmSampleAlloc(GpmSample **sample) {
    *sample = calloc(1, sizeof **sample);
    return OK;
}

int nvmlGpmSampleFree(GpmSample *sample) {
    free(sample);
    return OK;
}

int nvmlGpmSampleGet(void *handle, GpmSample *sample) {
    CHECK(handle, F_GPM);
    *sample = (GpmSample){INDEX(handle), -1, now()};
    return OK;
}

int nvmlGpmMigSampleGet(void *handle, unsigned instance, GpmSample *sample) {
    CHECK(handle, F_GPM);
    *sample = (GpmSample){INDEX(handle), (int)instance, now()};
    return OK;
}

int nvmlGpmMetricsGet(GpmMetrics *asked) {
    if (!references) return UNINITIALIZED;
    GpmSample *first = asked->first, *second = asked->second;
    if (!first || !second || first->gpu != second->gpu || second->at <= first->at) return INVALID_ARGUMENT;
    static const struct { unsigned id; int curve; double scale; } known[] = {
        {2, SM, 0.1}, {5, TENSOR, 0.1}, {10, DRAM, 0.1}, {20, PCIE, 1}, {21, PCIE, 1}, {60, NVLINK, 1}, {61, NVLINK, 1}};
    for (unsigned i = 0; i < asked->count; i++) {
        GpmMetric *metric = &asked->metrics[i];
        metric->code = NOT_SUPPORTED;
        for (int k = 0; k < 7; k++) {
            if (metric->id != known[k].id) continue;
            metric->code = OK;
            metric->value = known[k].scale * mean(first->gpu, known[k].curve, first->at, second->at);
            for (int m = 0; m < mig_count && second->instance >= 0; m++)
                if (migs[m].gpu == first->gpu && (int)migs[m].instance == second->instance)
                    metric->value = k > 2 ? 0 : (k == 0 ? migs[m].sm : k == 1 ? migs[m].tensor : migs[m].dram) * 0.1;
            const Override *override = override_of(first->gpu, F_GPM);
            if (override) metric->value = override->real;
        }
    }
    return OK;
}

typedef struct { void *device; unsigned long long type, data; unsigned gi, ci; } EventData;
enum { TIMEOUT = 10, XID_EVENT = 8 };
static int registered[GPUS];

int nvmlEventSetCreate(void **set) {
    *set = (void *)1;
    memset(registered, 0, sizeof registered);
    return references ? OK : UNINITIALIZED;
}

int nvmlEventSetFree(void *set) {
    (void)set;
    return OK;
}

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) {
    (void)set;
    CHECK(handle, F_EVENTS);
    registered[INDEX(handle)] = types & XID_EVENT ? 1 : 0;
    return OK;
}

int nvmlEventSetWait_v2(void *set, EventData *out, unsigned timeout_ms) {
    (void)set;
    (void)timeout_ms;
    if (!references) return UNINITIALIZED;
    double t = now();
    for (int i = 0; i < GPUS && t >= queue_fault.from && t < queue_fault.to; i++)
        if (registered[i] && fault_of(i, t) == 15) return queue_fault.code;
    for (int i = 0; i < xid_count; i++)
        if (registered[xids[i].gpu] && !xids[i].told && xids[i].at <= now()) {
            xids[i].told = 1;
            *out = (EventData){(void *)(long)(xids[i].gpu + 1), XID_EVENT, xids[i].code, 0xffffffffu, 0xffffffffu};
            return OK;
        }
    return TIMEOUT;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    CHECK(handle, F_UTIL);
    if (gpus[INDEX(handle)].mig) return NOT_SUPPORTED; /* as on real GPUs with MIG enabled */
    rates[0] = (unsigned)shown(INDEX(handle), F_UTIL, curve_at(INDEX(handle), UTIL, now()));
    rates[1] = rates[0] / 2;
    return OK;
}

enum { MIG_HANDLES = 1000 };

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    if ((long)handle >= MIG_HANDLES) {
        Mig *mig = &migs[(long)handle - MIG_HANDLES];
        CHECK((void *)(long)(mig->gpu + 1), F_MEMORY);
        memory[0] = (unsigned long long)(gpus[mig->gpu].mib * mig->slices / 8) << 20;
        memory[2] = (unsigned long long)mig->mib << 20;
        memory[1] = memory[0] - memory[2];
        return OK;
    }
    CHECK(handle, F_MEMORY);
    int gpu = INDEX(handle);
    unsigned long long used = (unsigned long long)curve_at(gpu, USED, now()) << 20;
    used = shown(gpu, F_USED, used);
    memory[0] = shown(gpu, F_MEMORY, (unsigned long long)gpus[gpu].mib << 20);
    memory[1] = memory[0] - used;
    memory[2] = used;
    return OK;
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    CHECK(handle, F_TEMP);
    *celsius = (unsigned)shown(INDEX(handle), F_TEMP, curve_at(INDEX(handle), TEMP, now()));
    return OK;
}

int nvmlDeviceGetClockInfo(void *handle, unsigned type, unsigned *mhz) {
    CHECK(handle, F_CLOCK);
    *mhz = type == 2 ? 2619 : (unsigned)shown(INDEX(handle), F_CLOCK, curve_at(INDEX(handle), CLOCK, now()));
    return OK;
}
int nvmlDeviceGetMaxClockInfo(void *handle, unsigned type, unsigned *mhz) {
    CHECK(handle, F_CLOCK);
    *mhz = type == 2 ? 2619 : 1980;
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    CHECK(handle, F_THROTTLE);
    *reasons = (unsigned long long)curve_at(INDEX(handle), THROTTLE, now());
    return OK;
}

typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } ProcessInfo;

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *out) {
    follow();
    CHECK(handle, F_PROCS);
    int gpu = INDEX(handle);
    double t = now();
    unsigned found = 0;
    for (int i = 0; i < process_count; i++) {
        if (processes[i].gpu != gpu || t < processes[i].from || t >= processes[i].to) continue;
        if (out && found < *count)
            out[found] = (ProcessInfo){(unsigned)shown(gpu, F_PROCS, processes[i].pid),
                                       shown(gpu, F_PROCMEM, (unsigned long long)processes[i].mib << 20), processes[i].instance, 0};
        found++;
    }
    int enough = found <= *count && (out || !found);
    *count = found;
    return enough ? OK : INSUFFICIENT_SIZE;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, ProcessInfo *out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(handle, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *out) {
    (void)out;
    CHECK(handle, F_PROCS);
    *count = 0;
    return OK;
}

typedef struct { unsigned pid; unsigned long long stamp; unsigned sm, mem, enc, dec; } UtilSample;

int nvmlDeviceGetProcessUtilization(void *handle, UtilSample *out, unsigned *count, unsigned long long since) {
    (void)since;
    CHECK(handle, F_PROCUTIL);
    int gpu = INDEX(handle);
    double t = now();
    unsigned found = 0;
    for (int i = 0; i < process_count; i++) {
        if (processes[i].gpu != gpu || t < processes[i].from || t >= processes[i].to || !processes[i].sm) continue;
        if (out && found < *count)
            out[found] = (UtilSample){processes[i].pid, shown(gpu, F_STAMP, (unsigned long long)(t * 1e6)),
                                      (unsigned)shown(gpu, F_PROCUTIL, processes[i].sm), 0, 0, 0};
        found++;
    }
    if (!found) return NOT_FOUND;
    int enough = out && found <= *count;
    *count = found;
    return enough ? OK : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    CHECK(handle, F_MIG);
    *current = *pending = gpus[INDEX(handle)].mig;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    CHECK(handle, 0);
    *count = gpus[INDEX(handle)].mig ? 7 : 0;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
    CHECK(handle, 0);
    for (int i = 0; i < mig_count; i++) {
        if (migs[i].gpu != INDEX(handle) || index--) continue;
        *out = (void *)(long)(MIG_HANDLES + i);
        return OK;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    *id = migs[(long)handle - MIG_HANDLES].instance;
    return OK;
}

typedef struct { unsigned sms, copy, dec, enc, jpeg, ofa, gpu_slices, compute_slices; unsigned long long mib; } Attributes;

int nvmlDeviceGetAttributes_v2(void *handle, Attributes *out) {
    Mig *mig = &migs[(long)handle - MIG_HANDLES];
    *out = (Attributes){.gpu_slices = (unsigned)shown(mig->gpu, F_SLICES, mig->slices), .compute_slices = 1};
    return OK;
}
