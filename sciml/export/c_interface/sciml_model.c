#include "sciml_model.h"

#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_INPUTS 8

typedef struct {
    char *name;
    size_t rank; /* with the axis of the batch */
    int64_t sizes[SCIML_MOST_AXES + 1];
    int64_t size; /* floats of one sample */
} array_t;

struct sciml_model {
    OrtEnv *environment;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    size_t inputs;
    array_t arrays[MOST_INPUTS + 1]; /* inputs, then the output */
};

static const OrtApi *api = NULL;
static _Thread_local char message[1024] = "";

const char *sciml_model_message(void) { return message; }

static int fail(int code, const char *text) {
    snprintf(message, sizeof message, "%s", text);
    return code;
}

/* SCIML_OK, or the words of onnxruntime as the message. */
static int check(OrtStatus *status) {
    if (status == NULL) return SCIML_OK;
    fail(SCIML_RUNTIME, api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    return SCIML_RUNTIME;
}

#define TRY(call)                                \
    do {                                         \
        if (check(call) != SCIML_OK) goto error; \
    } while (0)

static const array_t *array_of(const sciml_model *model, int array) {
    if (model == NULL || array < -1 || array >= (int)model->inputs) return NULL;
    return &model->arrays[array < 0 ? model->inputs : (size_t)array];
}

/* Reads shape and type of an array. */
static int describe(const OrtTypeInfo *info, array_t *array) {
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    enum ONNXTensorElementDataType kind;
    TRY(api->CastTypeInfoToTensorInfo(info, &tensor));
    if (tensor == NULL) return fail(SCIML_RUNTIME, "an array of the model is no tensor");
    TRY(api->GetTensorElementType(tensor, &kind));
    TRY(api->GetDimensionsCount(tensor, &array->rank));
    if (kind != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || array->rank < 1 || array->rank > SCIML_MOST_AXES + 1)
        return fail(SCIML_RUNTIME, "expected arrays of floats with 1 to 9 axes, got others: export the model again");
    TRY(api->GetDimensions(tensor, array->sizes, array->rank));
    array->size = 1;
    for (size_t axis = 1; axis < array->rank; axis++) {
        if (array->sizes[axis] < 1) return fail(SCIML_RUNTIME, "a size of the model is open: export it for one grid");
        array->size *= array->sizes[axis];
    }
    return SCIML_OK;
error:
    return SCIML_RUNTIME;
}

static int describe_all(sciml_model *model) {
    OrtTypeInfo *info = NULL;
    size_t outputs;
    int code = SCIML_RUNTIME;
    TRY(api->SessionGetInputCount(model->session, &model->inputs));
    TRY(api->SessionGetOutputCount(model->session, &outputs));
    if (model->inputs > MOST_INPUTS || outputs != 1) {
        model->inputs = 0;
        return fail(SCIML_RUNTIME, "expected a model of up to 8 inputs and 1 output");
    }
    for (size_t i = 0; i <= model->inputs; i++) {
        array_t *array = &model->arrays[i];
        if (i < model->inputs) {
            TRY(api->SessionGetInputName(model->session, i, model->allocator, &array->name));
            TRY(api->SessionGetInputTypeInfo(model->session, i, &info));
        } else {
            TRY(api->SessionGetOutputName(model->session, 0, model->allocator, &array->name));
            TRY(api->SessionGetOutputTypeInfo(model->session, 0, &info));
        }
        code = describe(info, array);
        api->ReleaseTypeInfo(info);
        if (code != SCIML_OK) return code;
    }
    return SCIML_OK;
error:
    return SCIML_RUNTIME;
}

int sciml_model_load(const char *path, int threads, sciml_model **result) {
    OrtSessionOptions *options = NULL;
    sciml_model *model;
    if (result == NULL || path == NULL || threads < 0)
        return fail(SCIML_ARGUMENT, "expected a path, a number of threads >= 0 and a place for the model");
    *result = NULL;
    if (api == NULL) api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api == NULL)
        return fail(SCIML_RUNTIME, "the library of onnxruntime is older than the header that this file was compiled with");
    model = calloc(1, sizeof *model);
    if (model == NULL) return fail(SCIML_MEMORY, "no memory for the model");
    TRY(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "sciml", &model->environment));
    TRY(api->CreateSessionOptions(&options));
    TRY(api->SetIntraOpNumThreads(options, threads));
    TRY(api->CreateSession(model->environment, path, options, &model->session));
    TRY(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &model->memory));
    TRY(api->GetAllocatorWithDefaultOptions(&model->allocator));
    if (describe_all(model) != SCIML_OK) goto error;
    api->ReleaseSessionOptions(options);
    *result = model;
    return SCIML_OK;
error:
    if (options != NULL) api->ReleaseSessionOptions(options);
    sciml_model_free(model);
    return SCIML_RUNTIME;
}

void sciml_model_free(sciml_model *model) {
    if (model == NULL) return;
    for (size_t i = 0; i <= MOST_INPUTS; i++)
        if (model->arrays[i].name != NULL) model->allocator->Free(model->allocator, model->arrays[i].name);
    if (model->memory != NULL) api->ReleaseMemoryInfo(model->memory);
    if (model->session != NULL) api->ReleaseSession(model->session);
    if (model->environment != NULL) api->ReleaseEnv(model->environment);
    free(model);
}

int sciml_model_inputs(const sciml_model *model) { return model == NULL ? 0 : (int)model->inputs; }

const char *sciml_model_name(const sciml_model *model, int array) {
    const array_t *found = array_of(model, array);
    return found == NULL ? NULL : found->name;
}

int64_t sciml_model_size(const sciml_model *model, int array) {
    const array_t *found = array_of(model, array);
    return found == NULL ? -1 : found->size;
}

int sciml_model_shape(const sciml_model *model, int array, int *rank, int64_t sizes[SCIML_MOST_AXES]) {
    const array_t *found = array_of(model, array);
    if (found == NULL || rank == NULL || sizes == NULL)
        return fail(SCIML_ARGUMENT, "expected a model, the number of an input or -1, and places for rank and sizes");
    *rank = (int)found->rank - 1;
    for (int axis = 0; axis < *rank; axis++) sizes[axis] = found->sizes[axis + 1];
    return SCIML_OK;
}

/* A tensor of `batch` samples in the caller's memory. */
static OrtStatus *tensor_of(sciml_model *model, const array_t *array, int64_t batch, float *data, OrtValue **tensor) {
    int64_t sizes[SCIML_MOST_AXES + 1];
    for (size_t axis = 0; axis < array->rank; axis++) sizes[axis] = axis == 0 ? batch : array->sizes[axis];
    return api->CreateTensorWithDataAsOrtValue(model->memory, data, (size_t)(batch * array->size) * sizeof *data, sizes,
                                               array->rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, tensor);
}

int sciml_model_run(sciml_model *model, int64_t batch, const float *const *inputs, float *output) {
    OrtValue *tensors[MOST_INPUTS + 1] = {NULL};
    const char *names[MOST_INPUTS];
    int code = SCIML_RUNTIME;
    if (model == NULL || inputs == NULL || output == NULL || batch < 1)
        return fail(SCIML_ARGUMENT, "expected a model, a batch of 1 or more samples, inputs and an output");
    for (size_t i = 0; i < model->inputs; i++) {
        if (inputs[i] == NULL) {
            code = fail(SCIML_ARGUMENT, "an input is NULL");
            goto error;
        }
        names[i] = model->arrays[i].name;
        TRY(tensor_of(model, &model->arrays[i], batch, (float *)inputs[i], &tensors[i])); /* is only read */
    }
    TRY(tensor_of(model, &model->arrays[model->inputs], batch, output, &tensors[model->inputs]));
    TRY(api->Run(model->session, NULL, names, (const OrtValue *const *)tensors, model->inputs,
                 (const char *const *)&model->arrays[model->inputs].name, 1, &tensors[model->inputs]));
    code = SCIML_OK;
error:
    for (size_t i = 0; i <= model->inputs; i++)
        if (tensors[i] != NULL) api->ReleaseValue(tensors[i]);
    return code;
}
