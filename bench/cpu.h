/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAT_BENCH_CPU_H
#define LEAT_BENCH_CPU_H

/* Of a process, by /proc, in ticks of the system's clock; 0: there is none. */
double cpu_seconds_of(int pid);
/* Of this process. */
double cpu_seconds_own(void);

#endif
