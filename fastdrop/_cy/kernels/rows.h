/* Taking the tables' rows apart (dtypes.def, forms.def).
 *
 * A row is a macro, a list of fields. A table is included with a macro that takes a row's fields:
 *
 *     #define DTYPE_EACH(name, CODE, ...) DROP_##CODE,
 *     #include "kernels/dtypes.def"
 *
 * or with the name of a file. That is then included once for each row, and reads the row's fields by the
 * macros below:
 *
 *     #define DTYPE_BODY "kernels/apply_body.h"
 *     #include "kernels/dtypes.def"
 */
#ifndef DROP_ROWS_H
#define DROP_ROWS_H

#define DROP_JOIN_(a, b) a##b
#define DROP_JOIN(a, b) DROP_JOIN_(a, b)
#define DROP_FOR_ISA(name) DROP_JOIN(name##_, DROP_ISA) /* what each instruction set has one of */

/* Of dtypes.def. */
#define DTYPE_CALL(macro, ...) macro(__VA_ARGS__)
#define DTYPE_NAME DTYPE_CALL(DTYPE_NAME_, DTYPE)
#define DTYPE_CODE DTYPE_CALL(DTYPE_CODE_, DTYPE)
#define DTYPE_BYTES DTYPE_CALL(DTYPE_BYTES_, DTYPE)
#define DTYPE_NUMBER DTYPE_CALL(DTYPE_NUMBER_, DTYPE)
#define DTYPE_WIDE DTYPE_CALL(DTYPE_WIDE_, DTYPE)
#define DTYPE_IS_REAL DTYPE_CALL(DTYPE_IS_REAL_, DTYPE)
#define DTYPE_ADDS DTYPE_CALL(DTYPE_ADDS_, DTYPE)
#define DTYPE_NAME_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) name
#define DTYPE_CODE_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) DROP_##CODE
#define DTYPE_BYTES_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) bytes
#define DTYPE_NUMBER_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) number
#define DTYPE_WIDE_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) wide
#define DTYPE_IS_REAL_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) is_real
#define DTYPE_ADDS_(name, CODE, numpy, NUM, bytes, number, wide, is_real, adds) adds

/* Of forms.def. */
#define FORM_CALL(macro, ...) macro(__VA_ARGS__)
#define FORM_NAME FORM_CALL(FORM_NAME_, FORM)
#define FORM_CODE FORM_CALL(FORM_CODE_, FORM)
#define FORM_INPUTS FORM_CALL(FORM_INPUTS_, FORM)
#define FORM_IS_REAL FORM_CALL(FORM_IS_REAL_, FORM)
#define FORM_NAME_(name, CODE, operands, is_real, value) name
#define FORM_CODE_(name, CODE, operands, is_real, value) DROP_##CODE
#define FORM_INPUTS_(name, CODE, operands, is_real, value) (1 + operands)
#define FORM_IS_REAL_(name, CODE, operands, is_real, value) is_real

#endif
