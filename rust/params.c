// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameters. Those of the module! macro are integers and booleans,
 * and these are words.
 */
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "bindings_helper.h"

/* In the order of rust/params.rs. */
static const char * const content_policies[] = { "zero", "preserve", "none" };

static unsigned int default_content_policy;

static int content_policy_set(const char *val, const struct kernel_param *kp)
{
	int policy = sysfs_match_string(content_policies, val);

	if (policy < 0)
		return policy;

	*(unsigned int *)kp->arg = policy;
	return 0;
}

static int content_policy_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", content_policies[*(unsigned int *)kp->arg]);
}

static const struct kernel_param_ops content_policy_ops = {
	.set = content_policy_set,
	.get = content_policy_get,
};

module_param_cb(default_content_policy, &content_policy_ops,
		&default_content_policy, 0444);
MODULE_PARM_DESC(default_content_policy,
		 "What becomes of the contents of converted guest_memfd pages where the VMM does not say: zero (default), preserve, none");

unsigned int kma_default_content_policy(void)
{
	return default_content_policy;
}
