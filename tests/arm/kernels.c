/* One call of a function of kernels/cpu.c, in a process of its own. Its name and arguments are the arrays of the file
 * argv[1]. */

#include "../../minimind/kernels/cpu.c"

#include "arrays.h"

#define WHOLE(i) (*(long *)arrays[i])
#define BROKEN(i) (*(float *)arrays[i])

int main(int count, char **arguments) {
    if (count != 2)
        return 1;
    read_arrays(arguments[1]);
    const char *name = arrays[0];
    void **a = arrays;
    if (!strcmp(name, "norm_forward"))
        norm_forward(a[1], a[2], a[3], BROKEN(4), WHOLE(5), WHOLE(6), a[7], a[8], a[9]);
    else if (!strcmp(name, "norm_backward"))
        norm_backward(a[1], a[2], a[3], a[4], a[5], WHOLE(6), WHOLE(7), a[8], a[9]);
    else if (!strcmp(name, "swiglu_forward"))
        swiglu_forward(a[1], WHOLE(2), WHOLE(3), a[4]);
    else if (!strcmp(name, "swiglu_backward"))
        swiglu_backward(a[1], a[2], WHOLE(3), WHOLE(4), a[5]);
    else if (!strcmp(name, "cross_entropy"))
        cross_entropy(a[1], a[2], WHOLE(3), WHOLE(4), a[5]);
    else if (!strncmp(name, "attention", 9)) {
        const long *n = a[7];
        const Attention problem = {
            .qkv = a[1], .q_weight = a[2], .k_weight = a[3], .cosine = a[4], .sine = a[5], .segments = a[6],
            .num_segments = n[0], .num_tokens = n[1], .heads = n[2], .groups = n[3], .width = n[4], .eps = BROKEN(8),
        };
        if (!strcmp(name, "attention_forward"))
            attention_forward(&problem, a[9], a[10]);
        else
            attention_backward(&problem, a[9], a[10], a[11], a[12], a[13]);
    } else
        return 6;
    write_arrays(arguments[1]);
    return 0;
}
