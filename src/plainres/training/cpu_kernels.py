"""CPU kernels in Numba for CIFAR networks of few channels: whole networks, forward and backward.

oneDNN and ATen are made for more channels; at 4 to 32 channels a layer here takes a fraction of
their time. `plainres.training.fused_cpu` writes the programs that run here. Tensors lie as
(C, H, W, N), the batch innermost: one lane of a vector is one image. Where a convolution reads, a
border of zeros surrounds the pixels. Sums over images have one order on every processor
(plainres.training.vectors). Addresses and steps are in bytes.
"""

import numpy as np
from numba import njit

from plainres.training.vectors import (
    LANES,
    WIDE_LANES,
    add,
    fma,
    load,
    load_one,
    load_pair,
    load_wide,
    multiply,
    number,
    size_of,
    splat,
    splat_pair,
    splat_wide,
    store,
    store_one,
    subtract,
    total,
    total_of_second,
    where_positive,
)

CHANNELS_AT_ONCE = 4  # output channels of a convolution are a multiple of it
IMAGES_AT_ONCE = 4 * LANES  # a batch is a multiple of it

# A layer of a program: convolution, batch normalisation, shortcut, activation. Addresses are of the
# first pixel that is no border; steps lead to the next row of pixels or the next channel (plane).
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("in_channels", "in_height", "in_width"),
            *("out_channels", "height", "width"),
            *("taps", "stride"),  # 3 or 1, 1 or 2, in each direction
            *("x", "x_row", "x_plane"),  # input
            *("weight", "weight_out", "weight_in", "weight_row", "weight_column"),
            *("scale", "shift", "running_mean", "running_variance", "num_batches"),
            "z",  # the convolution's output, without border
            "statistics",  # mean and 1 / standard deviation of each channel
            *("y", "y_row", "y_plane"),  # output
            "activated",  # 0: no activation behind the normalisation
            # Added before the activation; 0: nothing. Its channel 0 is added to `shortcut_first`
            *("shortcut", "shortcut_row", "shortcut_plane", "shortcut_stride"),
            *("shortcut_channels", "shortcut_first"),
            *("y_gradient", "x_gradient"),  # without border; x_gradient 0: nobody asks for it
            "x_gradient_adds",  # 1: `x_gradient` holds the shortcut's part already
            # Where the shortcut's gradient goes, without border; 0: it stays in `y_gradient`
            *("shortcut_gradient", "shortcut_height", "shortcut_width"),
            # Gradient of z, with a border, and zeros between the pixels where the stride is 2
            *("z_gradient", "z_gradient_row", "z_gradient_plane"),
            # From the beginning of all parameters' gradients
            *("weight_gradient", "scale_gradient", "shift_gradient"),
        )
    ]
    + [("shortcut_factor", np.float64)]
)


@njit(cache=True)
def forward(program, images, packed, linear, logits, training, momentum, epsilon, slope, offset):
    """Logits of a batch.

    Args:
        program: (layers,) of LAYER.
        images: N.
        packed: memory for the weights of the largest layer.
        linear: features (C, N), weights (K, C), bias (K,): addresses and C, K, bytes of a row of
            weights.
        logits: (K, N).
        training: normalise with statistics of the batch, and update the running statistics.
        momentum, epsilon: of batch normalisation; their type is that of all numbers.
        slope, offset: the activation is u where u = v + offset is above 0, else slope · u.
    """
    size = size_of(epsilon)
    pixel = images * size
    for position in range(len(program)):
        layer = program[position]
        _pack(layer, packed, False, epsilon)
        start = layer.x - (layer.x_row + pixel) * (layer.taps // 2)
        _convolve(
            start, layer.x_row, layer.x_plane, layer.stride * layer.x_row, layer.stride * pixel,
            packed, layer.in_channels, layer.taps, layer.z, layer.out_channels, layer.height,
            layer.width, images, False, epsilon,
        )  # fmt: skip
        for channel in range(layer.out_channels):
            place = size * channel
            if training:
                mean, variance = _moments(
                    layer.z + channel * layer.height * layer.width * pixel,
                    layer.height * layer.width * images, epsilon,
                )  # fmt: skip
                _update_running(layer, place, images, mean, variance, momentum)
            else:
                mean = load_one(layer.running_mean + place, epsilon)
                variance = load_one(layer.running_variance + place, epsilon)
            inverse = number(1, epsilon) / np.sqrt(variance + epsilon)
            store_one(layer.statistics + 2 * place, mean)
            store_one(layer.statistics + 2 * place + size, inverse)
            _normalise(layer, channel, images, mean, inverse, slope, offset)
        if training:
            count = load_one(layer.num_batches, np.int64(0))
            store_one(layer.num_batches, count + 1)
    _pool(program[len(program) - 1], images, linear[0], epsilon)
    _multiply_linear(linear, images, logits, epsilon)


@njit(cache=True)
def backward(program, images, packed, linear, logits_gradient, gradients, slope):
    """Gradients of all parameters, from the gradient of the logits; after `forward` in training.

    Args:
        gradients: where the gradients of all parameters begin; linear weights and bias first.
        program, images, packed, linear, slope: as in `forward`.
        logits_gradient: (K, N).
    """
    size = size_of(slope)
    pixel = images * size
    last = program[len(program) - 1]
    _linear_backward(last, linear, images, logits_gradient, gradients, slope)
    for position in range(len(program) - 1, -1, -1):
        layer = program[position]
        for channel in range(layer.out_channels):
            along_shift, along_scale = _through_activation(layer, channel, images, slope)
            store_one(gradients + layer.shift_gradient + size * channel, along_shift)
            store_one(gradients + layer.scale_gradient + size * channel, along_scale)
            _through_normalisation(layer, channel, images, along_shift, along_scale)
        if layer.shortcut_gradient:
            _through_shortcut(layer, images, slope)
        if layer.taps == 3:
            _correlate3(layer, images, gradients + layer.weight_gradient, slope)
        else:
            _correlate1(layer, images, gradients + layer.weight_gradient, slope)
        if layer.x_gradient:
            _pack(layer, packed, True, slope)
            start = layer.z_gradient - (layer.z_gradient_row + pixel) * (layer.taps // 2)
            _convolve(
                start, layer.z_gradient_row, layer.z_gradient_plane, layer.z_gradient_row, pixel,
                packed, layer.out_channels, layer.taps, layer.x_gradient, layer.in_channels,
                layer.in_height, layer.in_width, images, layer.x_gradient_adds == 1, slope,
            )  # fmt: skip


@njit(cache=True)
def _pack(layer, packed, turned, like):
    """Weights in the order in which `_convolve` reads them: (out / 4, in, taps, 4).

    `turned`: for the gradient of x, with in and out exchanged and taps rotated by 180°.
    """
    size = size_of(like)
    outs, ins = layer.out_channels, layer.in_channels
    step_out, step_in = layer.weight_out, layer.weight_in
    if turned:
        outs, ins = ins, outs
        step_out, step_in = step_in, step_out
    taps = layer.taps
    for block in range(0, outs, CHANNELS_AT_ONCE):
        for into in range(ins):
            for row in range(taps):
                for column in range(taps):
                    down, right = (taps - 1 - row, taps - 1 - column) if turned else (row, column)
                    place = (
                        layer.weight
                        + into * step_in
                        + down * layer.weight_row
                        + right * layer.weight_column
                    )
                    for out in range(block, block + CHANNELS_AT_ONCE):
                        store_one(packed, load_one(place + out * step_out, like))
                        packed += size


@njit(cache=True)
def _convolve(
    x, tap_row, plane, row_step, pixel_step, packed, ins, taps, out, outs, height, width, images,
    adds, like,
):  # fmt: skip
    """out (outs, height, width, N) = convolution of x (address of the first tap) with `packed`.

    `adds`: to what `out` holds. Four output channels of two vectors of images are in registers.
    """
    size = size_of(like)
    pixel, vector = images * size, WIDE_LANES * size
    out_plane = height * width * pixel
    for block in range(0, outs, CHANNELS_AT_ONCE):
        weights = packed + block * ins * taps * taps * size
        for row in range(height):
            for column in range(width):
                target = out + block * out_plane + (row * width + column) * pixel
                source = x + row * row_step + column * pixel_step
                for _ in range(0, images, 2 * WIDE_LANES):
                    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat_wide(like - like)
                    if adds:
                        a0, b0 = load_wide(target, like), load_wide(target + vector, like)
                        place = target + out_plane
                        a1, b1 = load_wide(place, like), load_wide(place + vector, like)
                        place += out_plane
                        a2, b2 = load_wide(place, like), load_wide(place + vector, like)
                        place += out_plane
                        a3, b3 = load_wide(place, like), load_wide(place + vector, like)
                    weight = weights
                    for into in range(ins):
                        for down in range(taps):
                            tap = source + into * plane + down * tap_row
                            for _ in range(taps):
                                u, v = load_wide(tap, like), load_wide(tap + vector, like)
                                w0 = splat_wide(load_one(weight, like))
                                w1 = splat_wide(load_one(weight + size, like))
                                w2 = splat_wide(load_one(weight + 2 * size, like))
                                w3 = splat_wide(load_one(weight + 3 * size, like))
                                a0, b0 = fma(w0, u, a0), fma(w0, v, b0)
                                a1, b1 = fma(w1, u, a1), fma(w1, v, b1)
                                a2, b2 = fma(w2, u, a2), fma(w2, v, b2)
                                a3, b3 = fma(w3, u, a3), fma(w3, v, b3)
                                weight += CHANNELS_AT_ONCE * size
                                tap += pixel
                    store(target, a0)
                    store(target + vector, b0)
                    place = target + out_plane
                    store(place, a1)
                    store(place + vector, b1)
                    place += out_plane
                    store(place, a2)
                    store(place + vector, b2)
                    place += out_plane
                    store(place, a3)
                    store(place + vector, b3)
                    target += 2 * vector
                    source += 2 * vector


def _correlator(load_x, load_gradient, splat_zero):
    """Sums of one input channel, or of two: x and its plane → four outputs by three taps."""

    @njit
    def correlate(layer, block, into, down, images, like):
        pixel, vector = images * size_of(like), LANES * size_of(like)
        step = pixel * layer.stride  # between pixels of z's gradient
        plane = layer.z_gradient_plane
        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = splat_zero(like)
        for row in range(layer.height):
            down_x = (row * layer.stride + down - 1) * layer.x_row - pixel
            x = layer.x + into * layer.x_plane + down_x
            gradient = layer.z_gradient + block * plane
            gradient += row * layer.stride * layer.z_gradient_row
            for _ in range(layer.width):
                g, tap = gradient, x
                for _ in range(0, images, LANES):
                    g0, g1 = load_gradient(g, like), load_gradient(g + plane, like)
                    g2 = load_gradient(g + 2 * plane, like)
                    g3 = load_gradient(g + 3 * plane, like)
                    v = load_x(tap, layer.x_plane, like)
                    a0, b0, c0, d0 = fma(g0, v, a0), fma(g1, v, b0), fma(g2, v, c0), fma(g3, v, d0)
                    v = load_x(tap + pixel, layer.x_plane, like)
                    a1, b1, c1, d1 = fma(g0, v, a1), fma(g1, v, b1), fma(g2, v, c1), fma(g3, v, d1)
                    v = load_x(tap + 2 * pixel, layer.x_plane, like)
                    a2, b2, c2, d2 = fma(g0, v, a2), fma(g1, v, b2), fma(g2, v, c2), fma(g3, v, d2)
                    g += vector
                    tap += vector
                gradient += step
                x += step
        return (a0, a1, a2), (b0, b1, b2), (c0, c1, c2), (d0, d1, d2)

    return correlate


@njit
def _load_single(address, plane, like):
    return load(address, like)


@njit
def _load_both(address, plane, like):
    return load_pair(address, address + plane, like)


@njit
def _load_twice(address, like):
    return load_pair(address, address, like)


@njit
def _zero(like):
    return splat(like - like)


@njit
def _zero_pair(like):
    return splat_pair(like - like)


def _gradient_of(correlate, channels):
    """Writes the sums of `channels` input channels, 1 or 2, to their places."""

    @njit
    def gradient_of(layer, into, images, target, like):
        for block in range(0, layer.out_channels, CHANNELS_AT_ONCE):
            for down in range(3):
                place = target + block * layer.weight_out + into * layer.weight_in
                place += down * layer.weight_row
                for sums in correlate(layer, block, into, down, images, like):
                    for right in range(3):
                        one = place + right * layer.weight_column
                        store_one(one, total(sums[right]))
                        if channels == 2:
                            store_one(one + layer.weight_in, total_of_second(sums[right]))
                    place += layer.weight_out

    return gradient_of


_correlate3_single = _gradient_of(_correlator(_load_single, load, _zero), 1)
_correlate3_pair = _gradient_of(_correlator(_load_both, _load_twice, _zero_pair), 2)


@njit(cache=True)
def _correlate3(layer, images, target, like):
    """Gradient of 3×3 weights: sums over pixels and images, in LANES lanes and then over these.

    Where registers hold twice as many lanes, the others are of the next input channel.
    """
    into = 0
    while into < layer.in_channels:
        if WIDE_LANES > LANES and into + 1 < layer.in_channels:
            _correlate3_pair(layer, into, images, target, like)
            into += 2
        else:
            _correlate3_single(layer, into, images, target, like)
            into += 1


@njit(cache=True)
def _correlate1(layer, images, target, like):
    """Gradient of 1×1 weights."""
    size = size_of(like)
    pixel, vector = images * size, LANES * size
    step = pixel * layer.stride
    plane = layer.z_gradient_plane
    for block in range(0, layer.out_channels, CHANNELS_AT_ONCE):
        for into in range(layer.in_channels):
            a = b = c = d = splat(like - like)
            for row in range(layer.height):
                down = row * layer.stride
                gradient = layer.z_gradient + block * plane + down * layer.z_gradient_row
                x = layer.x + into * layer.x_plane + down * layer.x_row
                for _ in range(layer.width):
                    g, tap = gradient, x
                    for _ in range(0, images, LANES):
                        v = load(tap, like)
                        a, b = fma(load(g, like), v, a), fma(load(g + plane, like), v, b)
                        c = fma(load(g + 2 * plane, like), v, c)
                        d = fma(load(g + 3 * plane, like), v, d)
                        g += vector
                        tap += vector
                    gradient += step
                    x += step
            place = target + block * layer.weight_out + into * layer.weight_in
            for lanes in (a, b, c, d):
                store_one(place, total(lanes))
                place += layer.weight_out


@njit(cache=True)
def _moments(z, count, like):
    """Mean and variance of `count` numbers, a multiple of 32."""
    vector = LANES * size_of(like)
    a = b = c = d = splat(like - like)
    place = z
    for _ in range(0, count, 4 * LANES):
        a, b = add(a, load(place, like)), add(b, load(place + vector, like))
        c = add(c, load(place + 2 * vector, like))
        d = add(d, load(place + 3 * vector, like))
        place += 4 * vector
    size = number(count, like)
    mean = total(add(add(a, b), add(c, d))) / size
    a = b = c = d = splat(like - like)
    means = splat(mean)
    place = z
    for _ in range(0, count, 4 * LANES):
        u, v = subtract(load(place, like), means), subtract(load(place + vector, like), means)
        a, b = fma(u, u, a), fma(v, v, b)
        u = subtract(load(place + 2 * vector, like), means)
        v = subtract(load(place + 3 * vector, like), means)
        c, d = fma(u, u, c), fma(v, v, d)
        place += 4 * vector
    return mean, total(add(add(a, b), add(c, d))) / size


@njit(cache=True)
def _update_running(layer, place, images, mean, variance, momentum):
    """Running mean and (unbiased) variance of a channel, as PyTorch updates them."""
    count = number(layer.height * layer.width * images, mean)
    unbiased = variance * (count / (count - number(1, mean)))
    old = load_one(layer.running_mean + place, mean)
    store_one(layer.running_mean + place, old + momentum * (mean - old))
    old = load_one(layer.running_variance + place, mean)
    store_one(layer.running_variance + place, old + momentum * (unbiased - old))


@njit(cache=True)
def _normalise(layer, channel, images, mean, inverse, slope, offset):
    """y of one channel from its z."""
    size = size_of(mean)
    pixel, vector = images * size, LANES * size
    means = splat(mean)
    factors = splat(load_one(layer.scale + channel * size, mean) * inverse)
    shifts = splat(load_one(layer.shift + channel * size, mean))
    slopes, offsets = splat(slope), splat(offset)
    of_shortcut = channel - layer.shortcut_first
    added = layer.shortcut != 0 and 0 <= of_shortcut < layer.shortcut_channels
    factor = splat(number(layer.shortcut_factor, mean))
    z = layer.z + channel * layer.height * layer.width * pixel
    for row in range(layer.height):
        y = layer.y + channel * layer.y_plane + row * layer.y_row
        shortcut = (
            layer.shortcut
            + of_shortcut * layer.shortcut_plane
            + row * layer.shortcut_stride * layer.shortcut_row
        )
        for _ in range(layer.width):
            for place in range(0, pixel, vector):
                v = fma(subtract(load(z + place, mean), means), factors, shifts)
                if added:
                    v = fma(load(shortcut + place, mean), factor, v)
                if layer.activated:
                    v = add(v, offsets)
                    v = where_positive(v, v, multiply(v, slopes))
                store(y + place, v)
            z += pixel
            y += pixel
            shortcut += layer.shortcut_stride * pixel


@njit(cache=True)
def _through_activation(layer, channel, images, slope):
    """Turns y's gradient of one channel into that before the activation; returns the gradients of
    the normalisation's shift and scale."""
    size = size_of(slope)
    pixel, vector = images * size, LANES * size
    place = layer.statistics + 2 * channel * size
    means, inverses = splat(load_one(place, slope)), splat(load_one(place + size, slope))
    slopes = splat(slope)
    a = b = c = d = splat(slope - slope)
    plane = channel * layer.height * layer.width * pixel
    z, gradient = layer.z + plane, layer.y_gradient + plane
    for row in range(layer.height):
        y = layer.y + channel * layer.y_plane + row * layer.y_row
        for _ in range(0, layer.width * pixel, 2 * vector):
            g, h = load(gradient, slope), load(gradient + vector, slope)
            if layer.activated:
                g = where_positive(load(y, slope), g, multiply(g, slopes))
                h = where_positive(load(y + vector, slope), h, multiply(h, slopes))
                store(gradient, g)
                store(gradient + vector, h)
            u = multiply(subtract(load(z, slope), means), inverses)
            v = multiply(subtract(load(z + vector, slope), means), inverses)
            a, b = add(a, g), add(b, h)
            c, d = fma(g, u, c), fma(h, v, d)
            y += 2 * vector
            z += 2 * vector
            gradient += 2 * vector
    return total(add(a, b)), total(add(c, d))


@njit(cache=True)
def _through_normalisation(layer, channel, images, along_shift, along_scale):
    """z's gradient of one channel from that behind the normalisation."""
    size = size_of(along_shift)
    pixel, vector = images * size, LANES * size
    place = layer.statistics + 2 * channel * size
    mean, inverse = load_one(place, along_shift), load_one(place + size, along_shift)
    count = number(layer.height * layer.width * images, mean)
    means, inverses = splat(mean), splat(inverse)
    factors = splat(load_one(layer.scale + channel * size, mean) * inverse)
    shifts, slopes = splat(along_shift / count), splat(-(along_scale / count))
    plane = channel * layer.height * layer.width * pixel
    z, gradient = layer.z + plane, layer.y_gradient + plane
    for row in range(layer.height):
        target = (
            layer.z_gradient
            + channel * layer.z_gradient_plane
            + row * layer.stride * layer.z_gradient_row
        )
        for _ in range(layer.width):
            for place in range(0, pixel, vector):
                normal = multiply(subtract(load(z + place, mean), means), inverses)
                centred = subtract(load(gradient + place, mean), shifts)
                store(target + place, multiply(fma(slopes, normal, centred), factors))
            z += pixel
            gradient += pixel
            target += layer.stride * pixel


@njit(cache=True)
def _through_shortcut(layer, images, like):
    """The gradient of a shortcut's input: zero where the shortcut skips a pixel."""
    size = size_of(like)
    pixel, vector = images * size, LANES * size
    factor, zero = splat(number(layer.shortcut_factor, like)), splat(like - like)
    stride = layer.shortcut_stride
    target = layer.shortcut_gradient
    for channel in range(layer.shortcut_channels):
        plane = layer.y_gradient + (
            (channel + layer.shortcut_first) * layer.height * layer.width * pixel
        )
        for row in range(layer.shortcut_height):
            for column in range(layer.shortcut_width):
                passed = row % stride == 0 and column % stride == 0
                gradient = plane + (row // stride * layer.width + column // stride) * pixel
                for place in range(0, pixel, vector):
                    value = multiply(load(gradient + place, like), factor) if passed else zero
                    store(target + place, value)
                target += pixel


@njit(cache=True)
def _pool(layer, images, features, like):
    """features (C, N): means over the pixels of the last layer."""
    size = size_of(like)
    vector = LANES * size
    count = splat(number(1, like) / number(layer.height * layer.width, like))
    for channel in range(layer.out_channels):
        for place in range(0, images * size, vector):
            value = splat(like - like)
            for row in range(layer.height):
                y = layer.y + channel * layer.y_plane + row * layer.y_row + place
                for _ in range(layer.width):
                    value = add(value, load(y, like))
                    y += images * size
            store(features, multiply(value, count))
            features += vector


@njit(cache=True)
def _multiply_linear(linear, images, logits, like):
    """logits (K, N) = weights · features + bias."""
    features, weight, bias, channels, classes, row = linear
    size = size_of(like)
    pixel = images * size
    for one in range(classes):
        for place in range(0, pixel, LANES * size):
            value = splat(load_one(bias + one * size, like))
            for channel in range(channels):
                factor = splat(load_one(weight + one * row + channel * size, like))
                value = fma(factor, load(features + channel * pixel + place, like), value)
            store(logits + one * pixel + place, value)


@njit(cache=True)
def _linear_backward(layer, linear, images, logits_gradient, gradients, like):
    """Gradients of weights and bias, and of the pixels that were averaged into the features."""
    features, weight, _, channels, classes, row = linear
    size = size_of(like)
    pixel, vector = images * size, LANES * size
    for one in range(classes):
        along_bias = splat(like - like)
        for place in range(0, pixel, vector):
            along_bias = add(along_bias, load(logits_gradient + one * pixel + place, like))
        store_one(gradients + (classes * channels + one) * size, total(along_bias))
        for channel in range(channels):
            value = splat(like - like)
            for place in range(0, pixel, vector):
                value = fma(
                    load(logits_gradient + one * pixel + place, like),
                    load(features + channel * pixel + place, like),
                    value,
                )
            store_one(gradients + (one * channels + channel) * size, total(value))
    pixels = layer.height * layer.width
    share = splat(number(1, like) / number(pixels, like))
    for channel in range(channels):
        target = layer.y_gradient + channel * pixels * pixel
        for place in range(0, pixel, vector):
            value = splat(like - like)
            for one in range(classes):
                factor = splat(load_one(weight + one * row + channel * size, like))
                value = fma(factor, load(logits_gradient + one * pixel + place, like), value)
            value = multiply(value, share)
            for number_of_pixel in range(pixels):
                store(target + number_of_pixel * pixel + place, value)
