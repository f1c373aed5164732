/* One call of decode.c's `forward`, in a process of its own. Its arguments are the arrays of the file argv[1]. */

#include "../../minimind/inference/decode.c"

#include "arrays.h"

int main(int count, char **arguments) {
    if (count != 2)
        return 1;
    read_arrays(arguments[1]);
    const long *n = arrays[0];
    Model m = {
        .num_layers = n[0], .D = n[1], .H = n[2], .G = n[3], .K = n[4], .I = n[5], .V = n[6], .S = n[7], .kind = n[8],
        .half = n[9], .eps = *(float *)arrays[1], .cosine = arrays[2], .sine = arrays[3], .norm = arrays[4],
        .output = arrays[5],
    };
    Layer *layers = calloc(m.num_layers, sizeof(Layer));
    memcpy(layers, arrays + 11, m.num_layers * sizeof(Layer)); /* pointers and nothing else, in the same order */
    m.layers = layers;
    const long tokens = n[10], wanted = n[11], num_threads = n[12];
    const long most = padded(m.D, BLOCK) + padded((m.H + 2 * m.G) * m.K, BLOCK) + padded(2 * m.I, BLOCK);
    const Scratch scratch = {
        .input = calloc(padded(tokens, SIDE) * most, sizeof(float)), .output = calloc(tokens * most, sizeof(float)),
    };
    float *scores = calloc(num_threads * HEADS * m.S, sizeof(float));
    forward(&m, tokens, arrays[6], arrays[7], arrays[8], wanted, arrays[9], arrays[10], &scratch, scores, num_threads);
    write_arrays(arguments[1]);
    return 0;
}
