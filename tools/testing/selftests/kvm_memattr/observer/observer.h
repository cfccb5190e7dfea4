/* SPDX-License-Identifier: GPL-2.0 */
/* Between the files of the observer module. */
#ifndef OBSERVER_H
#define OBSERVER_H

struct file_operations;

extern const struct file_operations observer_vm_fops;

#endif /* OBSERVER_H */
