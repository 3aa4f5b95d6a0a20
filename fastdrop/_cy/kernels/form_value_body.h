/* What a form makes of numbers of one precision: the table's values. `kept` has all bits of
 * the lanes that the mask keeps, and none of others. */
DROP_INLINE V P(form_value)(drop_form form, V x, V u, V v, vu64 kept, const drop_numbers *n)
{
    const NUMBER scale = (NUMBER)n->scale, shift = (NUMBER)n->shift;
    const V dropped = (V){0} + (NUMBER)n->dropped;
    switch (form) {
#define KEEP(a) (V)((vu64)(a) & kept)
#define FORM_EACH(name, CODE, operands, is_real, value) case DROP_##CODE: return value;
#include "kernels/forms.def"
#undef KEEP
    default: __builtin_unreachable();
    }
}
