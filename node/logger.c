/* SPDX-License-Identifier: Apache-2.0 */
#include "logger.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOGGER_LINE_BYTES  1024
#define LOGGER_INTERVAL_NS 1000000000u

static const char *const severity_names[] = {"error", "warning", "info", "debug"};

int logger_open(struct node_logger *out, const struct leat_config *config)
{
    out->severity = config->log_severity;
    out->node_id = config->node_id;
    out->descriptor = STDERR_FILENO;
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
    ssize_t written = write(out->descriptor, line, used);
    (void)written; /* nowhere to say that saying failed */
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
