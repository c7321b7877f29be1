/* A region of a JPEG's pixels, by libjpeg-turbo: what lies beside it is read, but neither transformed nor coloured;
   what lies below it is not even read. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or later is needed"
#endif

typedef struct {
    struct jpeg_error_mgr manager; /* first, because libjpeg holds a pointer to it */
    jmp_buf fault;
    char text[JMSG_LENGTH_MAX];
} Errors;

typedef struct {
    const unsigned char *data;
    size_t size;
    JDIMENSION width, height; /* of the whole picture */
    int scale;                /* 1, 2, 4 or 8: it is decoded at 1 / scale of its size */
    JDIMENSION left, top, columns, rows; /* at that scale */
    int bands;                           /* 1 or 3: grey or RGB */
    unsigned char *pixels;               /* [rows, columns, bands], the rows `stride` bytes apart */
    size_t stride;
    const volatile unsigned char *stop; /* NULL, or a byte that another thread sets to end this */
} Region;

typedef struct {
    struct jpeg_progress_mgr manager; /* first, because libjpeg holds a pointer to it */
    const volatile unsigned char *stop;
} Progress;

static void on_error(j_common_ptr info) {
    Errors *errors = (Errors *)info->err;
    info->err->format_message(info, errors->text);
    longjmp(errors->fault, 1);
}

static void on_message(j_common_ptr info, int level) {
    if (level < 0) { /* a warning of damaged data */
        on_error(info);
    }
}

static void check(j_decompress_ptr info, int holds, const char *text) {
    if (!holds) {
        Errors *errors = (Errors *)info->err;
        snprintf(errors->text, sizeof errors->text, "%s", text);
        longjmp(errors->fault, 1);
    }
}

/* Called for each row of blocks, in each pass over the file and over the image. */
static void on_progress(j_common_ptr info) {
    check((j_decompress_ptr)info, !*((Progress *)info->progress)->stop, "it was stopped");
}

/* Whether an end is marked behind the headers. Pixels hold no such bytes (ITU T.81, B.1.1.5). */
static int is_whole(j_decompress_ptr info) {
    const JOCTET *start = info->src->next_input_byte, *end = start + info->src->bytes_in_buffer;
    for (const JOCTET *byte = end - 1; byte > start; byte--) {
        if (byte[-1] == 0xff && byte[0] == JPEG_EOI) {
            return 1;
        }
    }
    return 0;
}

static void start(j_decompress_ptr info, const Region *region) {
    jpeg_mem_src(info, region->data, region->size);
    jpeg_read_header(info, TRUE);
    check(info, is_whole(info), "it was cut short"); /* nothing below the region is read that would tell */
    check(info, info->image_width == region->width && info->image_height == region->height, "it has another size");
    J_COLOR_SPACE space = info->jpeg_color_space;
    int agrees = region->bands == 1 ? space == JCS_GRAYSCALE : space == JCS_YCbCr || space == JCS_RGB;
    check(info, agrees, "it has another colour space");
    info->out_color_space = region->bands == 1 ? JCS_GRAYSCALE : JCS_RGB;
    info->scale_num = 1;
    info->scale_denom = region->scale;
    jpeg_start_decompress(info);
    check(info, info->output_components == region->bands, "it has another number of components");
    int across = region->left < info->output_width && region->columns <= info->output_width - region->left;
    int down = region->top < info->output_height && region->rows <= info->output_height - region->top;
    check(info, across && down && region->columns > 0 && region->rows > 0, "the region lies outside");
}

static void read_region(j_decompress_ptr info, const Region *region) {
    start(info, region);
    JDIMENSION first = region->left, width = region->columns;
    if (width < info->output_width) {
        jpeg_crop_scanline(info, &first, &width);
        check(info, first == region->left && width == region->columns, "the region begins within a block");
    }
    check(info, jpeg_skip_scanlines(info, region->top) == region->top, "rows are missing");
    for (JDIMENSION number = 0; number < region->rows; number++) {
        JSAMPROW row = region->pixels + (size_t)number * region->stride;
        check(info, jpeg_read_scanlines(info, &row, 1) == 1, "a row is missing");
    }
}

/* Whether it succeeded; if not, why is in `errors`. */
static int decode_region(const Region *region, Errors *errors) {
    struct jpeg_decompress_struct info;
    Progress progress = {.manager.progress_monitor = on_progress, .stop = region->stop};
    memset(&info, 0, sizeof info);
    info.err = jpeg_std_error(&errors->manager);
    errors->manager.error_exit = on_error;
    errors->manager.emit_message = on_message;
    int failed = setjmp(errors->fault);
    if (!failed) {
        jpeg_create_decompress(&info);
        info.progress = region->stop ? &progress.manager : NULL;
        read_region(&info, region);
    }
    jpeg_destroy_decompress(&info);
    return !failed;
}

static int is_sound(const Region *region, const Py_buffer *pixels) {
    int scale = region->scale;
    return pixels->itemsize == 1 && pixels->ndim == 3 && pixels->shape[0] <= JPEG_MAX_DIMENSION &&
           pixels->shape[1] <= JPEG_MAX_DIMENSION && (region->bands == 1 || region->bands == 3) &&
           pixels->strides[2] == 1 && pixels->strides[1] == region->bands &&
           pixels->strides[0] >= pixels->shape[1] * region->bands &&
           (scale == 1 || scale == 2 || scale == 4 || scale == 8);
}

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *arguments) {
    Py_buffer data, pixels, stop = {0};
    PyObject *out;
    Region region;
    if (!PyArg_ParseTuple(arguments, "y*(II)i(II)O|y*:decode", &data, &region.width, &region.height, &region.scale,
                          &region.left, &region.top, &out, &stop)) {
        return NULL;
    }
    if (PyObject_GetBuffer(out, &pixels, PyBUF_WRITABLE | PyBUF_STRIDES) < 0) {
        PyBuffer_Release(&stop);
        PyBuffer_Release(&data);
        return NULL;
    }
    Errors errors = {.text = "the pixels' shape or the scale is wrong"};
    region.data = data.buf;
    region.size = data.len;
    region.stop = stop.len > 0 ? stop.buf : NULL;
    region.bands = pixels.ndim == 3 && pixels.shape[2] <= 3 ? (int)pixels.shape[2] : 0;
    int succeeded = 0;
    if (is_sound(&region, &pixels)) {
        region.rows = (JDIMENSION)pixels.shape[0];
        region.columns = (JDIMENSION)pixels.shape[1];
        region.pixels = pixels.buf;
        region.stride = (size_t)pixels.strides[0];
        Py_BEGIN_ALLOW_THREADS
        succeeded = decode_region(&region, &errors);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&stop);
    PyBuffer_Release(&data);
    if (!succeeded) {
        PyErr_SetString(PyExc_ValueError, errors.text);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS,
     PyDoc_STR("decode(data, size, scale, corner, pixels, stop=b'')\n--\n\n"
               "Decodes the region of a JPEG that begins at `corner` and fills `pixels`.\n\n"
               "Args:\n"
               "    data: bytes of the file; their buffer must not change meanwhile.\n"
               "    size: width and height of the whole picture.\n"
               "    scale: 1, 2, 4 or 8; it is decoded at 1 / scale of its size.\n"
               "    corner: column and row where the region begins, at that scale; the column where a block begins.\n"
               "    pixels: uint8 [rows, columns, 1 or 3], each row contiguous, is written: grey or RGB.\n"
               "    stop: its first byte is looked at for each row of blocks; another thread sets it to end this.\n\n"
               "Raises:\n"
               "    ValueError: it was stopped, the data are damaged, or not what was said of them; `pixels` may be half written.\n")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "models.images.jpeg_region",
    .m_doc = PyDoc_STR("A region of a JPEG's pixels, by libjpeg-turbo."),
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_jpeg_region(void) {
    return PyModule_Create(&module);
}
