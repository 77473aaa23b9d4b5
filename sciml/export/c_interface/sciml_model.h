/* A trained model in a solver: load once, call in every step. Numbers are float; the last axis runs fastest.

   Every function that returns int returns SCIML_OK or what went wrong; sciml_model_message() then says it in words.
   A model may be used by one thread at a time; several threads load it several times. */

#ifndef SCIML_MODEL_H
#define SCIML_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SCIML_OK = 0,
    SCIML_RUNTIME = 1,  /* onnxruntime refused: no such file, no model, another version */
    SCIML_ARGUMENT = 2, /* an argument of these functions is wrong */
    SCIML_MEMORY = 3
};

#define SCIML_MOST_AXES 8

typedef struct sciml_model sciml_model;

/* Loads model.onnx; threads: number of threads of one call, 0 for as many as there are cores. */
int sciml_model_load(const char *path, int threads, sciml_model **model);

void sciml_model_free(sciml_model *model);

/* Number of inputs. Their order is that of card.json. */
int sciml_model_inputs(const sciml_model *model);

/* Name of an input, or of the output for array = -1; NULL if there is no such array. */
const char *sciml_model_name(const sciml_model *model, int array);

/* Sizes of one sample of an input, or of the output for array = -1: the axis of the batch is left out. */
int sciml_model_shape(const sciml_model *model, int array, int *rank, int64_t sizes[SCIML_MOST_AXES]);

/* Number of floats of one sample of an input, or of the output for array = -1; -1 if there is no such array. */
int64_t sciml_model_size(const sciml_model *model, int array);

/* output = model(inputs): each array holds `batch` samples one after another. Nothing is copied. */
int sciml_model_run(sciml_model *model, int64_t batch, const float *const *inputs, float *output);

/* What went wrong in the last call of this thread that failed. */
const char *sciml_model_message(void);

#ifdef __cplusplus
}
#endif

#endif
