/* Calls the model in a time loop: ./main_c model.onnx [steps] */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sciml_model.h"

#define MOST_INPUTS 8

int main(int count, char **arguments) {
    const char *path = count > 1 ? arguments[1] : "model.onnx";
    int steps = count > 2 ? atoi(arguments[2]) : 3;
    sciml_model *model;
    float *inputs[MOST_INPUTS];

    if (sciml_model_load(path, 1, &model) != SCIML_OK) {
        fprintf(stderr, "%s: %s\n", path, sciml_model_message());
        return 1;
    }

    for (int i = 0; i < sciml_model_inputs(model); i++) {
        int64_t size = sciml_model_size(model, i), sizes[SCIML_MOST_AXES];
        int rank;
        sciml_model_shape(model, i, &rank, sizes);
        printf("%s", sciml_model_name(model, i));
        for (int axis = 0; axis < rank; axis++) printf(" %lld", (long long)sizes[axis]);
        printf("\n");
        inputs[i] = malloc((size_t)size * sizeof(float));
        for (int64_t k = 0; k < size; k++) inputs[i][k] = (float)(1.0 + 0.5 * sin(0.1 * (double)(k + 1)));
    }

    int64_t into = sciml_model_size(model, 0), out = sciml_model_size(model, -1);
    float *output = malloc((size_t)out * sizeof(float));
    for (int step = 1; step <= steps; step++) {
        double squares = 0.0;
        if (sciml_model_run(model, 1, (const float *const *)inputs, output) != SCIML_OK) {
            fprintf(stderr, "%s\n", sciml_model_message());
            return 1;
        }
        for (int64_t k = 0; k < out; k++) squares += (double)output[k] * output[k];
        printf("step %d %.9g %.9g %.9g\n", step, output[0], output[out - 1], sqrt(squares));

        /* What was predicted follows what was seen: the oldest values leave. */
        if (out <= into) {
            memmove(inputs[0], inputs[0] + out, (size_t)(into - out) * sizeof(float));
            memcpy(inputs[0] + into - out, output, (size_t)out * sizeof(float));
        }
    }

    for (int i = 0; i < sciml_model_inputs(model); i++) free(inputs[i]);
    free(output);
    sciml_model_free(model);
    return 0;
}
