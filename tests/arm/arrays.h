/* Arrays that come in a file and go back in it, for programs that stand in for a library on another processor.
 *
 * The file: how many there are, the bytes of each, and then they, each from a multiple of 64 bytes on. One of no bytes
 * is a null pointer. `emulator.py` is the other side.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST 256

static char *memory;
static long bytes_in_all;
static void *arrays[MOST];

static void read_arrays(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        exit(2);
    bytes_in_all = ftell(file);
    rewind(file);
    memory = aligned_alloc(64, bytes_in_all);
    if (fread(memory, 1, bytes_in_all, file) != (size_t)bytes_in_all)
        exit(3);
    fclose(file);
    const int64_t *sizes = (int64_t *)memory;
    char *next = memory + (8 * (sizes[0] + 1) + 63) / 64 * 64;
    if (sizes[0] > MOST)
        exit(4);
    for (long i = 0; i < sizes[0]; i++) {
        arrays[i] = sizes[i + 1] ? next : NULL;
        next += (sizes[i + 1] + 63) / 64 * 64;
    }
}

static void write_arrays(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(memory, 1, bytes_in_all, file) != (size_t)bytes_in_all || fclose(file))
        exit(5);
}
