/* Activations and their slopes: the steps of fastdrop/_formulas/activations.py, which explains them. */
#ifndef DROP_ACTIVATIONS_H
#define DROP_ACTIVATIONS_H

#include "math/elementary.h"

static const float drop_last_gelu_f32 = 13.25f, drop_last_exp_f32 = 88.0f;
static const double drop_last_gelu_f64 = 37.65625, drop_last_exp_f64 = 709.0;
enum { DROP_LAST_TANH = 16 };

#define PRECISION_BODY "math/activations_body.h"
#include "math/precisions.def"

#endif
