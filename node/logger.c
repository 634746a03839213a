/* SPDX-License-Identifier: Apache-2.0 */
#include "logger.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOGGER_INTERVAL_NS 1000000000u

static const char *const severity_names[] = {"error", "warning", "info", "debug"};

int logger_open(struct node_logger *out, const struct leat_config *config)
{
    out->severity = config->log_severity;
    out->node_id = config->node_id;
    out->descriptor = STDERR_FILENO;
    pthread_mutex_init(&out->lock, NULL);
    if (config->log_file[0] == '\0')
        return LEAT_OK;
    int fd = open(config->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        return LEAT_ESYSTEM;
    out->descriptor = fd;
    return LEAT_OK;
}

void logger_close(struct node_logger *out)
{
    if (out->descriptor > STDERR_FILENO)
        close(out->descriptor);
    out->descriptor = -1;
}

static void logger_out(const struct node_logger *out, const char *line, size_t bytes)
{
    ssize_t written = write(out->descriptor, line, bytes);
    (void)written; /* nowhere to say that saying failed */
}

static void logger_put(struct node_logger *out, const char *line, size_t bytes)
{
    pthread_mutex_lock(&out->lock);
    bool room = out->tail - out->head < LOGGER_RING_LINES;
    if (out->deferred && room) {
        memcpy(out->lines[out->tail % LOGGER_RING_LINES], line, bytes);
        out->lengths[out->tail % LOGGER_RING_LINES] = (uint16_t)bytes;
        out->tail++;
    } else if (out->deferred) {
        out->lost++;
    }
    bool now = !out->deferred;
    pthread_mutex_unlock(&out->lock);
    if (now)
        logger_out(out, line, bytes);
}

void logger_flush(struct node_logger *out)
{
    char line[LOGGER_LINE_BYTES];
    for (;;) {
        pthread_mutex_lock(&out->lock);
        uint64_t lost = out->head == out->tail ? out->lost : 0;
        size_t bytes = 0;
        if (out->head != out->tail) {
            bytes = out->lengths[out->head % LOGGER_RING_LINES];
            memcpy(line, out->lines[out->head % LOGGER_RING_LINES], bytes);
            out->head++;
        } else if (lost > 0) {
            bytes = (size_t)snprintf(line, sizeof(line), "(%lu lines were lost)\n",
                                     (unsigned long)lost);
            out->lost = 0;
        }
        pthread_mutex_unlock(&out->lock);
        if (bytes == 0)
            return;
        logger_out(out, line, bytes);
    }
}

void logger_defer(struct node_logger *out, bool deferred)
{
    pthread_mutex_lock(&out->lock);
    out->deferred = deferred;
    pthread_mutex_unlock(&out->lock);
    if (!deferred)
        logger_flush(out);
}

static void logger_write(struct node_logger *out, enum leat_config_severity severity,
                         uint64_t suppressed, const char *format, va_list arguments)
{
    char line[LOGGER_LINE_BYTES];
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t used = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &parts);
    used += (size_t)snprintf(line + used, sizeof(line) - used,
                             ".%06ldZ %s node %u: ", now.tv_nsec / 1000, severity_names[severity],
                             out->node_id);
    int more = vsnprintf(line + used, sizeof(line) - used, format, arguments);
    used += more > 0 ? (size_t)more : 0;
    if (used > sizeof(line) - 40)
        used = sizeof(line) - 40;
    if (suppressed > 0)
        used += (size_t)snprintf(line + used, sizeof(line) - used, " (and %lu alike before)",
                                 (unsigned long)suppressed);
    line[used++] = '\n';
    logger_put(out, line, used);
}

void logger_line(struct node_logger *out, enum leat_config_severity severity, const char *format,
                 ...)
{
    if (severity > out->severity)
        return;
    va_list arguments;
    va_start(arguments, format);
    logger_write(out, severity, 0, format, arguments);
    va_end(arguments);
}

void logger_limited(struct node_logger *out, struct logger_rate *rate, uint64_t now_ns,
                    enum leat_config_severity severity, const char *format, ...)
{
    if (severity > out->severity)
        return;
    if (rate->last_ns != 0 && now_ns - rate->last_ns < LOGGER_INTERVAL_NS) {
        rate->suppressed++;
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    logger_write(out, severity, rate->suppressed, format, arguments);
    va_end(arguments);
    rate->last_ns = now_ns;
    rate->suppressed = 0;
}
