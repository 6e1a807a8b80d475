"Whatever lies in a folder, reading it ends soon and in little memory, the good pictures are there, and the others are listed with a reason."
import csv, faulthandler, gzip, json, multiprocessing, os, shutil, socket, struct, subprocess, sys, time, warnings, zlib
from io import BytesIO
from pathlib import Path
import numpy as np, pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from PIL import Image
from cae.cli import _table, _write_skipped
from cae.images import Images, infer_reading, mnist, read_images
from cae.large import open_images, store_images
from conftest import cae, forked

GOOD = mnist('test').pixels[:20, 0]

def encoded(im, format, **how):
    "The image `im` as the bytes of a file."
    buf = BytesIO()
    (im if isinstance(im, Image.Image) else Image.fromarray(im)).save(buf, format, **how)
    return buf.getvalue()

def add_good(folder, n=len(GOOD)):
    "The first `n` digits as good pictures in `folder`."
    for i in range(n): Image.fromarray(GOOD[i]).save(folder/f'good{i:02}.png')

def read(folder, **how):
    "The pictures in `folder`, after it was made sure that the good ones are right and all others are accounted for."
    with warnings.catch_warnings(action='ignore'): images = Images.from_folder(folder, **dict(size=28, channels=1) | how)
    here = {n: x for n, x in zip(images.names, images.pixels[:, 0]) if n.startswith('good')}
    assert len(here) == len(list(folder.glob('good*')))
    if not how:
        for n, x in here.items(): assert (x == GOOD[int(n[4:6])]).all(), n
    assert len({*images.names, *dict(images.skipped)}) == len(images) + len(images.skipped)
    for name, why in images.skipped: assert why and len(why.splitlines()) == 1 and len(why) < 300, (name, why)
    return images

@pytest.fixture(autouse=True)
def no_test_hangs():
    "A test that takes five minutes ends the run and says where it was."
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()

# Single pictures, by hand

RGB = np.asarray(Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)).resize((30, 24), Image.Resampling.BICUBIC))
GREY = RGB[..., 2]

def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
def png(w, h, rows=b'', bits=8, colour=0, more=b''):
    "A PNG file that says it is `w`×`h`."
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, bits, colour, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + more + chunk(b'IDAT', zlib.compress(rows, 9)) + chunk(b'IEND', b'')

def with_size(data, place, fmt, *size): return data[:place] + struct.pack(fmt, *size) + data[place + struct.calcsize(fmt):]

def scans(n, side=9000):
    "A progressive JPEG of `n` passes over the picture: each takes a few bytes, and the decoder as long as any other."
    data = encoded(Image.new('L', (side, side)), 'JPEG', progressive=True)
    first = data.index(b'\xff\xda')
    second = data.index(b'\xff\xda', first + 2)
    last = data.index(b'\xff\xda', second + 2) if data.count(b'\xff\xda') > 2 else len(data) - 2
    return data[:second] + data[second:last]*n + data[last:]

def eps(): return b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 24\n%%EndComments\n{} loop\nshowpage\n%%EOF\n'

def pages(format, **how): return encoded(Image.fromarray(RGB), format, save_all=True, append_images=[Image.fromarray(255 - RGB)]*3, **how)

def exif(orientation):
    e = Image.Exif()
    e[0x112] = orientation
    return e.tobytes()

CASES = {   # name: the bytes, and what is said, None where the picture is read
    'empty.png':          (b'', 'empty'),
    'text.png':           (b'this is no picture\n'*99, 'not an image'),
    'noise.jpg':          (np.random.default_rng(0).bytes(5000), 'not an image'),
    'html.gif':           (b'<!doctype html><title>404</title>', 'not an image'),
    'postscript.eps':     (eps(), 'not an image'),
    'postscript.png':     (eps(), 'not an image'),
    'zero.png':           (png(0, 0), ''),
    'zero wide.png':      (png(0, 9, bytes(9)), ''),
    'zero.gif':           (with_size(encoded(GREY, 'GIF'), 6, '<HH', 0, 0), None),        # its frame has a size
    'zero.bmp':           (with_size(encoded(RGB, 'BMP'), 18, '<ii', 0, 0), ''),
    'bomb.png':           (png(60_000, 60_000, bytes(60_001*200)), 'pixels'),
    'bomb of one bit.png': (png(50_000, 50_000, bytes(6251*50_000), bits=1), 'pixels'),
    'just too large.png': (png(9460, 9460, bytes(9461*9460)), 'pixels'),
    'rows missing.png':   (png(9400, 9400, bytes(9401)), None),                            # those that there are
    'claims all.png':     (png(2**31 - 1, 2**31 - 1), ''),
    'claims much.gif':    (with_size(encoded(GREY, 'GIF'), 6, '<HH', 65535, 65535), 'pixels'),
    'claims much.jpg':    ((lambda d: with_size(d, d.index(b'\xff\xc0') + 5, '>HH', 65500, 65500))(encoded(RGB, 'JPEG')), 'pixels'),
    'claims much.bmp':    (with_size(encoded(RGB, 'BMP'), 18, '<ii', 2**30, 2**30), 'pixels'),
    'claims much.ppm':    (b'P6 99999 99999 255\n' + bytes(99), 'pixels'),
    'claims much.tga':    (with_size(encoded(RGB, 'TGA'), 12, '<HH', 65535, 65535), 'pixels'),
    'many passes.jpg':    (scans(3000), 'passes'),
    'giant profile.png':  (png(28, 28, bytes(29*28), more=chunk(b'iCCP', b'p\0\0' + zlib.compress(bytes(2**27), 9))), 'too large'),
    'giant text.png':     (png(28, 28, bytes(29*28), more=chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(2**27), 9))), 'too large'),
    'many texts.png':     (png(28, 28, bytes(29*28), more=chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(2**19), 9))*500), 'too much'),
    'no end.png':         (encoded(RGB, 'PNG')[:-16], None),
    'one.png':            (encoded(GREY[:1, :1], 'PNG'), None),
    'one.gif':            (encoded(GREY[:1, :1], 'GIF'), None),
    'wide.png':           (encoded(np.zeros((30, 30_000), np.uint8), 'PNG'), None),
    'line.png':           (encoded(np.zeros((1, 30_000), np.uint8), 'PNG'), None),
    'high.jpg':           (encoded(np.zeros((30_000, 30), np.uint8), 'JPEG'), None),
    'large.png':          (png(9400, 9400, bytes(9401*9400)), None),
    'large colours.png':  (png(9400, 9400, bytes((1 + 3*9400)*9400), colour=2), None),
    'large and clear.png': (png(9400, 9400, bytes((1 + 4*9400)*9400), colour=6), None),
    'large, 16 bits.png': (png(9400, 9400, bytes((1 + 2*9400)*9400), bits=16), None),
    'large floats.tif':   (lambda: encoded(np.zeros((9400, 9400), np.float32), 'TIFF', compression='tiff_lzw'), None),
    'really a png.jpg':   (encoded(RGB, 'PNG'), None),
    'really a jpeg.tif':  (encoded(RGB, 'JPEG'), None),
    'really a webp.PNG':  (encoded(RGB, 'WEBP'), None),
    'animated.gif':       (pages('GIF'), None),
    'animated.webp':      (pages('WEBP', lossless=True), None),
    'animated.png':       (pages('PNG'), None),
    'pages.tif':          (pages('TIFF'), None),
    'stereo.mpo':         (pages('MPO', quality=95), None),
    '1 bit.png':          (encoded(Image.fromarray(GREY).convert('1'), 'PNG'), None),
    '1 bit.tif':          (encoded(Image.fromarray(GREY).convert('1'), 'TIFF', compression='group4'), None),
    'palette.png':        (encoded(Image.fromarray(RGB).convert('P'), 'PNG'), None),
    'palette, clear.png': (encoded(Image.fromarray(RGB).convert('P'), 'PNG', transparency=3), None),
    'LA.png':             (encoded(Image.fromarray(GREY).convert('LA'), 'PNG'), None),
    'RGBA.webp':          (encoded(Image.fromarray(RGB).convert('RGBA'), 'WEBP'), None),
    'CMYK.jpg':           (encoded(Image.fromarray(RGB).convert('CMYK'), 'JPEG'), None),
    'CMYK.tif':           (encoded(Image.fromarray(RGB).convert('CMYK'), 'TIFF'), None),
    'YCbCr.tif':          (encoded(Image.fromarray(RGB).convert('YCbCr'), 'TIFF'), None),
    'Lab.tif':            (encoded(Image.fromarray(RGB).convert('LAB'), 'TIFF'), None),
    '16 bits.png':        (encoded(GREY.astype(np.uint16)*257, 'PNG'), None),
    '16 bits.tif':        (encoded(GREY.astype(np.uint16)*257, 'TIFF'), None),
    '32 bits.tif':        (encoded(GREY.astype(np.int32)*70_000, 'TIFF'), None),
    'floats.tif':         (encoded(GREY.astype(np.float32), 'TIFF'), None),
    'huge floats.tif':    (encoded(np.float32([[-3e38, 3e38], [0, 1]]).repeat(9, 0), 'TIFF'), None),
    'no numbers.tif':     (encoded(np.full((9, 9), np.nan, np.float32), 'TIFF'), 'NaN'),
    'film.avif':          (pages('AVIF'), None),
    'wavelets.jp2':       (encoded(RGB, 'JPEG2000'), None),
} | {f'turned {i}.jpg':     (encoded(RGB, 'JPEG', exif=exif(i)), None) for i in (1, 3, 6, 8, 0, 9, 65535)}
CASES |= {f'cut {k}.{k}':     (encoded(RGB, f)[:n], '') for k, f, n in [('jpg', 'JPEG', 500), ('png', 'PNG', 200), ('tif', 'TIFF', 300), ('gif', 'GIF', 400), ('webp', 'WEBP', 100)]}

def content(name): return (data() if callable(data := CASES[name][0]) else data)

@pytest.mark.parametrize('name', CASES)
def test_one_beside_good_ones(name, tmp_path):
    add_good(tmp_path, 3)
    (tmp_path/name).write_bytes(content(name))
    images = read(tmp_path)
    said = CASES[name][1]
    assert (name in images.names) == (said is None) and (name in dict(images.skipped)) == (said is not None), images.skipped
    if said: assert said.lower() in dict(images.skipped)[name].lower()

def test_the_first_of_several_pictures_is_taken(tmp_path):
    for name in ('animated.gif', 'animated.webp', 'animated.png', 'pages.tif', 'stereo.mpo'): (tmp_path/name).write_bytes(content(name))
    images = Images.from_folder(tmp_path, channels=3)
    for name, x in zip(images.names, images.pixels): assert abs(x.astype(int) - RGB.transpose(2, 0, 1)).mean() < 20, name        # the others are its negative

@pytest.mark.parametrize('orientation', range(1, 9))
def test_turned_pictures_stand_upright(orientation, tmp_path):
    turned = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: np.rot90(RGB), 7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB, -1)}
    (tmp_path/'a.png').write_bytes(encoded(np.ascontiguousarray(turned[orientation]), 'PNG', exif=exif(orientation)))
    assert (Images.from_folder(tmp_path).pixels[0].transpose(1, 2, 0) == RGB).all()

def test_large_pictures_are_decoded_in_turn(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    from cae.images import _Room
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    room, most = _Room(), []
    def decode(n):
        with room.take(n):
            most.append(room.taken)
            time.sleep(.001)
    with ThreadPoolExecutor(8) as ex: list(ex.map(decode, [60, 30, 100, 1, 50, 99, 7, 20]*10))
    assert len(most) == 80 and 90 <= max(most) <= 100 and room.taken == 0
    with pytest.raises(Image.DecompressionBombError): decode(101)
    assert room.taken == 0

def test_the_limit_is_pillows(tmp_path, monkeypatch):
    add_good(tmp_path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 783)
    with pytest.raises(ValueError, match='none of its 20 images can be read; the first, good00.png: more than 783 pixels'): Images.from_folder(tmp_path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert len(read(tmp_path)) == 20

def test_a_decoder_may_raise_anything(tmp_path, monkeypatch):
    add_good(tmp_path, 3)
    (tmp_path/'bad.png').write_bytes(encoded(RGB, 'PNG'))
    honest = Image.open
    for e in (IndexError('17'), KeyError('x'), ZeroDivisionError(), AssertionError(), MemoryError(), RecursionError('deep'), OverflowError('so\nmuch'), OSError()):
        def fails(file, *args, **kwargs):
            if Path(file.name).name == 'bad.png': raise e
            return honest(file, *args, **kwargs)
        monkeypatch.setattr(Image, 'open', fails)
        assert [n for n, _ in read(tmp_path).skipped] == ['bad.png']
        assert infer_reading(tmp_path)['size'] == (28, 28)

# What is no file, and links

needs_posix = pytest.mark.skipif(os.name != 'posix', reason='named pipes, sockets and links as POSIX has them')

def add_special(folder):
    "Things with the name of a picture that are no file; the names of those that are to be listed, with a word of the reason."
    os.mkfifo(folder/'pipe.png')
    here = os.getcwd()
    os.chdir(folder)                                                     # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as s: s.bind('socket.png')
    finally: os.chdir(here)
    (folder/'folder.png').mkdir()
    links = {'device.png': '/dev/zero', 'terminal.png': '/dev/tty', 'dangling.png': 'nowhere', 'itself.png': 'itself.png', 'loop': '.', 'loop.png': '..', 'far': '/', 'to pipe.png': 'pipe.png'}
    for name, to in links.items(): (folder/name).symlink_to(to)
    return {'pipe.png': 'a named pipe', 'socket.png': 'a socket', 'folder.png': 'a folder', 'device.png': 'a device', 'terminal.png': 'a device',
            'dangling.png': 'nowhere', 'itself.png': '', 'loop': 'a link to a folder', 'loop.png': 'a link to a folder', 'far': 'a link to a folder', 'to pipe.png': 'a named pipe'}

@needs_posix
def test_what_is_no_file_is_listed_and_not_opened(tmp_path):
    add_good(tmp_path)
    special = add_special(tmp_path)
    images = read(tmp_path)
    assert len(images) == 20 and set(dict(images.skipped)) == set(special)
    for name, why in images.skipped: assert special[name] in why, (name, why)
    assert infer_reading(tmp_path)['size'] == (28, 28)

@needs_posix
def test_links_to_files_are_read_and_links_to_folders_are_not_followed(tmp_path):
    for name in ('elsewhere', 'scans'): (tmp_path/name).mkdir()
    add_good(tmp_path/'elsewhere')
    for p in (tmp_path/'elsewhere').iterdir(): (tmp_path/'scans'/p.name).symlink_to(p)
    (tmp_path/'scans'/'all').symlink_to(tmp_path/'elsewhere')
    images = read(tmp_path/'scans')
    assert len(images) == 20 and images.skipped == [('all', 'a link to a folder; such links are not followed')]
    assert len(read(tmp_path/'scans'/'all')) == 20                       # unless it is what was asked for

def test_a_folder_with_the_name_of_a_picture(tmp_path):
    (tmp_path/'scan.png').mkdir()
    Image.fromarray(GREY).save(tmp_path/'scan.png'/'a.png')
    with pytest.warns(UserWarning, match='a folder, not a file'): images = Images.from_folder(tmp_path)
    assert images.names == ['scan.png/a.png'] and images.skipped == [('scan.png', 'a folder, not a file')]

def test_a_file_and_a_folder_that_must_not_be_opened(tmp_path, monkeypatch):
    "Simulated, since root may open everything."
    add_good(tmp_path, 3)
    (tmp_path/'closed').mkdir()
    (tmp_path/'secret.png').write_bytes(encoded(RGB, 'PNG'))
    def guarded(f):
        def g(x, *args, **kwargs):                                       # an open file, or a path
            if Path(x.name).name in ('secret.png', 'closed'): raise PermissionError(13, 'Permission denied', x.name)
            return f(x, *args, **kwargs)
        return g
    monkeypatch.setattr(Image, 'open', guarded(Image.open))
    monkeypatch.setattr(os, 'scandir', guarded(os.scandir))
    assert read(tmp_path).skipped == [('closed', 'Permission denied'), ('secret.png', 'Permission denied')]

def as_nobody(folder, results):
    "What the pictures in `folder` are to somebody who is not root: read, and stored beside it; an error as words."
    Image.init()
    os.chdir(folder)                                                     # what is above may be closed to him
    if not os.geteuid():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    def tried(f):
        try: images = f()
        except Exception as e: return repr(e)
        return images.names, images.skipped
    warnings.simplefilter('ignore')
    how = dict(size=28, channels=1)
    for f in (lambda: read_images('.', **how), lambda: store_images('.', '../stored', **how)): results.send(tried(f))

CLOSED = [('closed', 'Permission denied'), ('listed/a.png', 'Permission denied'), ('secret.png', 'Permission denied')]

@pytest.fixture(scope='module')
def to_nobody(tmp_path_factory):
    "What somebody sees in a folder with a file, a folder, and files in a folder that are closed to him: as it was read, and as it was stored."
    d = tmp_path_factory.mktemp('nobody')
    scans = d/'scans'
    for p in (d/'stored', scans, scans/'closed', scans/'listed'): p.mkdir()
    add_good(scans, 3)
    for name in ('secret.png', 'closed/a.png', 'listed/a.png'): (scans/name).write_bytes(encoded(RGB, 'PNG'))
    for name, mode in {'': 0o755, 'stored': 0o777, 'scans': 0o755, 'scans/closed': 0, 'scans/listed': 0o444, 'scans/secret.png': 0}.items(): (d/name).chmod(mode)
    ours, his = multiprocessing.Pipe()
    p = forked(as_nobody, str(scans), his)
    his.close()
    yield ours.recv(), ours.recv()
    p.join()
    for name in ('closed', 'listed'): (scans/name).chmod(0o755)           # or nobody can take them away

needs_fork = pytest.mark.skipif('forkserver' not in multiprocessing.get_all_start_methods(), reason='a process that is not root is forked')

@needs_fork
def test_what_is_really_closed_is_listed(to_nobody): assert to_nobody[0] == (['good00.png', 'good01.png', 'good02.png'], CLOSED)

@needs_fork
def test_what_is_really_closed_is_listed_where_pictures_are_stored(to_nobody): assert to_nobody[1] == to_nobody[0]

@pytest.fixture
def deep(tmp_path, monkeypatch):
    "Three good pictures, and one in folders that are deeper than Python calls itself, and than a path is long."
    (tmp_path/'scans').mkdir()
    add_good(tmp_path/'scans', 3)
    monkeypatch.chdir(tmp_path/'scans')
    for _ in range(1500):
        os.mkdir('deep')
        os.chdir('deep')
    Image.fromarray(GREY).save('lost.png')
    yield tmp_path/'scans'
    os.remove('lost.png')
    for _ in range(1500):                                                # pytest cannot take them away
        os.chdir('..')
        os.rmdir('deep')

def test_folders_as_deep_as_they_may_be(deep):
    images = read(deep)
    assert len(images) == 3 and len(images.skipped) == 1 and 'long' in images.skipped[0][1]

def test_folders_as_deep_as_they_may_be_are_stored_too(deep, tmp_path):
    assert store_images(deep, tmp_path/'stored', size=28, channels=1).skipped == read(deep).skipped

@pytest.mark.parametrize('size', [2**29 + 1, 2**33])
def test_a_file_with_a_hole(size, tmp_path):
    add_good(tmp_path, 3)
    for name, head in {'a.webp': content('animated.webp'), 'a.png': png(28, 28)[:33] + struct.pack('>I', 2**31 - 1) + b'teSt', 'a.avif': content('film.avif')}.items():
        (tmp_path/name).write_bytes(head)
        os.truncate(tmp_path/name, size)
    (tmp_path/'pages.tif').write_bytes(content('pages.tif'))
    os.truncate(tmp_path/'pages.tif', size)                              # as large as it is, its first page is soon found
    images = read(tmp_path)
    assert images.names[3:] == ['pages.tif'] and all('bytes; more than' in why for _, why in images.skipped)

STRANGE = [b'a\xff.png', b'a\xfe.png', b'a\\xfd.png', 'é.png'.encode(), b'line\nbreak.png', b'"a", b.png', b'\x1b[31m.png', b'=1+1.png', b' .png', b'-.png', b'x'*251 + b'.png']

@needs_posix
def test_strange_names_stay_apart_and_can_be_written(tmp_path):
    (tmp_path/os.fsdecode(b'k\xff')).mkdir()
    for name in STRANGE:
        try: (tmp_path/os.fsdecode(b'k\xff')/os.fsdecode(name)).write_bytes(encoded(GREY, 'PNG'))
        except OSError: pytest.skip(f'this file system takes no name {name}')
    images = Images.from_folder(tmp_path, labels=True)
    assert len(set(images.names)) == len(STRANGE) and 'k\\xff/a\\xfe.png' in images.names and 'k\\xff/é.png' in images.names
    assert images.classes == ['k\\xff']
    for n in images.names: n.encode()

# Thousands, by chance

SEEDS = [('png', encoded(RGB, 'PNG')), ('png', encoded(GREY, 'PNG')), ('png', encoded(Image.fromarray(RGB).quantize(8), 'PNG')), ('png', pages('PNG')),
         ('jpg', encoded(RGB, 'JPEG', exif=exif(6))), ('jpg', encoded(GREY, 'JPEG', progressive=True)), ('jpg', content('CMYK.jpg')),
         ('tif', encoded(RGB, 'TIFF')), ('tif', encoded(RGB, 'TIFF', compression='tiff_lzw')), ('tif', content('1 bit.tif')), ('tif', pages('TIFF', compression='tiff_deflate')), ('tif', content('floats.tif')),
         ('gif', encoded(GREY, 'GIF')), ('gif', pages('GIF')),
         ('webp', encoded(RGB, 'WEBP')), ('webp', encoded(RGB, 'WEBP', lossless=True)), ('webp', pages('WEBP')),
         ('jp2', content('wavelets.jp2')), ('avif', content('film.avif')), ('bmp', encoded(RGB, 'BMP')), ('tga', encoded(RGB, 'TGA', compression='tga_rle')),
         ('ppm', encoded(RGB, 'PPM')), ('pcx', encoded(RGB, 'PCX')), ('sgi', encoded(RGB, 'SGI'))]
SIZES = [0, 1, 2, 9, 255, 256, 9000, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]

def with_checksums(data):
    "The PNG `data` with the checksum of each chunk put right, so that what is in it is believed."
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        n, = struct.unpack_from('>I', out, at)
        if at + 12 + n > len(out): break
        struct.pack_into('>I', out, at + 8 + n, zlib.crc32(out[at + 4:at + 8 + n]))
        at += 12 + n
    return bytes(out)

@st.composite
def damaged(draw):
    "The ending and the bytes of a picture to which something was done, once or several times."
    kind, data = draw(st.sampled_from(SEEDS))
    for what in draw(st.lists(st.sampled_from('cut flip size splice double drop noise'.split()), min_size=1, max_size=3)):
        at = draw(st.integers(0, max(0, len(data) - 1)).map(lambda i: i*7919 % max(1, len(data))) | st.integers(0, min(64, max(0, len(data) - 1))))    # anywhere, or near the beginning
        n = draw(st.integers(1, 64))
        if what == 'cut': data = data[:at]
        if what == 'flip' and data: data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1:]
        if what == 'size': data = with_size(data, at, *draw(st.sampled_from([(fmt, n) for fmt in ('<I', '>I', '<H', '>H') for n in SIZES if 'I' in fmt or n < 2**16])))
        if what == 'splice': data = data[:at] + draw(st.sampled_from(SEEDS))[1][at:]
        if what == 'double': data = data[:at] + data[at:at + n]*draw(st.integers(2, 50)) + data[at + n:]
        if what == 'drop': data = data[:at] + data[at + n:]
        if what == 'noise': data = data[:at] + draw(st.binary(min_size=n, max_size=n)) + data[at + n:]
    return kind, with_checksums(data) if data.startswith(b'\x89PNG') and draw(st.booleans()) else data

@pytest.fixture(scope='module')
def fuzzed(tmp_path_factory):
    "A folder of more than a thousand damaged pictures, each of which was read beside three good ones before; and what became of each."
    one, every, said = tmp_path_factory.mktemp('one'), tmp_path_factory.mktemp('every'), {}
    add_good(one, 3)

    @settings(max_examples=1400, derandomize=True, database=None, deadline=10_000, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(damaged())
    def check(case):
        kind, data = case
        name = f'{zlib.crc32(data):08x}.{kind}'
        (one/name).write_bytes(data)
        images = read(one)
        assert len(images) + len(images.skipped) == 4
        said[name] = dict(images.skipped).get(name)
        (one/name).rename(every/name)

    check()
    return every, said

def test_a_thousand_damaged_pictures(fuzzed):
    every, said = fuzzed
    assert len(said) >= 1000 and {Path(n).suffix for n in said} >= {'.png', '.jpg', '.tif', '.gif', '.webp'}
    out = [why for why in said.values() if why]
    print(f'{len(said)} damaged pictures, {len(out)} left out for {len(set(out))} reasons')
    assert .3 < len(out)/len(said) < .95

CHILD = """import json, sys, time, warnings
from pathlib import Path
from cae.images import Images, infer_reading
def peak(): return int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')).split()[1])*1024 if sys.platform == 'linux' else 0
warnings.simplefilter('ignore')
before, start = peak(), time.process_time()
how = infer_reading(sys.argv[1])
images = Images.from_folder(sys.argv[1], size=28, channels=1)
print(json.dumps(dict(names=images.names, skipped=images.skipped, seconds=time.process_time() - start, bytes=peak() - before,
                      good=[images.pixels[images.names.index(f'good{i:02}.png')].tolist() for i in range(20)])))"""

def test_all_of_it_at_once_in_a_minute_and_two_gigabytes(fuzzed, tmp_path):
    "The damaged ones, those by hand with the largest that are read, what is no file, and 20 good ones."
    every, said = fuzzed
    add_good(every)
    for name in CASES: (every/name).write_bytes(content(name))
    special = add_special(every) if os.name == 'posix' else {}
    res = subprocess.run([sys.executable, '-c', CHILD, every], capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, res.stderr
    res = json.loads(res.stdout)
    print(f'{len(res["names"])} read, {len(res["skipped"])} left out, {res["seconds"]:.0f} s of computing, {res["bytes"]/2**20:.0f} MB above what it began with')
    assert (np.array(res['good'])[:, 0] == GOOD).all()
    assert {n for n, _ in res['skipped']} == {n for n in said if said[n]} | {n for n in CASES if CASES[n][1] is not None} | set(special)
    assert len(res['names']) + len(res['skipped']) == 20 + len(said) + len(CASES) + len(special)
    assert res['seconds'] < 60 and res['bytes'] < 2e9

# Other doors

SLOW = {n for n in CASES if n.startswith('large') or n in ('rows missing.png', 'many passes.jpg')}      # to read them again would take long

def table(path):
    "The rows of the CSV file at `path` below its header."
    with path.open(newline='', encoding='utf-8') as f: return [tuple(row) for row in csv.reader(f)][1:]

@pytest.fixture(scope='module')
def doors(fuzzed, tmp_path_factory):
    "Every fourth of the damaged ones, those by hand, what is no file, strange names: as they are read, as they are stored in parts of ten, what was warned of in storing, and where they are stored."
    (every, said), d = fuzzed, tmp_path_factory.mktemp('doors')
    scans = d/'scans'
    scans.mkdir()
    add_good(scans)
    for name in sorted(said)[::4]: shutil.copy(every/name, scans)
    for name in set(CASES) - SLOW: (scans/name).write_bytes(content(name))
    if os.name == 'posix':
        add_special(scans)
        for name in STRANGE: (scans/os.fsdecode(name)).write_bytes(b'no picture')
    how = dict(size=28, channels=1)
    with warnings.catch_warnings(action='ignore'): images = read_images(scans, **how)
    with warnings.catch_warnings(record=True, action='always') as warned: stored = store_images(scans, d/'stored', budget=20*28*28, **how)
    return images, stored, warned, d/'stored'

def test_stored_as_it_is_read(doors, fuzzed):
    (images, stored, _, folder), (_, said) = doors, fuzzed
    assert len(list((folder/'parts').iterdir())) > 30 and open_images(folder, check=True).skipped == stored.skipped
    assert stored.skipped == images.skipped and stored.names == images.names and (stored.pixels == images.pixels).all()
    assert {n: why for n, why in images.skipped if n in said} == {n: said[n] for n in sorted(said)[::4] if said[n]}

def test_everything_left_out_is_in_the_table(doors, tmp_path):
    for images in doors[:2]:
        _write_skipped(tmp_path/'skipped.csv', images)
        assert table(tmp_path/'skipped.csv') == images.skipped

def test_storing_says_nothing_of_its_own(doors): assert [str(w.message) for w in doors[2]] == []

def test_a_name_with_a_carriage_return_stays_in_its_row(tmp_path):
    names = ['car\rriage.png', 'new\nline.png', 'a "b", c.png', 'plain.png']
    (tmp_path/'images.csv').write_text(_table(name=names, x=np.float32([.1, 2, -3, 1e-9]), cluster=[0, 1, -1, 2]), newline='')
    assert table(tmp_path/'images.csv') == [(n, *rest) for n, *rest in zip(names, ('0.1', '2.0', '-3.0', '1e-09'), '0 1 -1 2'.split())]

# The command

def test_discover_says_exactly_what_was_left_out(tmp_path):
    scans = tmp_path/(os.fsdecode(b'sc\xffns') if sys.platform == 'linux' else 'scans')
    scans.mkdir()
    for i, x in enumerate(mnist('test').pixels[:60, 0]): Image.fromarray(x).save(scans/f'{i:02}.png')
    bad = {n for n, (data, said) in CASES.items() if said is not None}
    for name in bad: (scans/name).write_bytes(content(name))
    if os.name == 'posix':
        bad |= set(add_special(scans))
        (scans/os.fsdecode(b'not UTF-8 \xff.png')).write_bytes(b'no')
        (scans/'line\nbreak.png').write_bytes(b'no')
        bad |= {'not UTF-8 \\xff.png', 'line\nbreak.png'}
    res = cae('discover', scans.name, '--epochs', 1, cwd=tmp_path)
    assert res.returncode == 0, res.stderr
    assert len(res.stderr.splitlines()) == 1 and f'{len(bad)} of {60 + len(bad)} images left out' in res.stderr
    with (tmp_path/'out'/'skipped.csv').open(newline='') as f: skipped = list(csv.DictReader(f))
    assert len(bad) >= 40 and sorted(s['name'] for s in skipped) == sorted(bad)
    assert all(s['reason'] and len(s['reason'].splitlines()) == 1 for s in skipped)
    assert [r['name'] for r in csv.DictReader((tmp_path/'out'/'images.csv').open())] == [f'{i:02}.png' for i in range(60)]
    assert json.loads((tmp_path/'out'/'report.json').read_text())['skipped'] == len(bad)

# IDX files and tables

IDX = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28]) + GOOD[:5].tobytes()
CSV = (','.join(['label', *(f'pixel{i}' for i in range(16))]) + '\n' + '\n'.join(','.join(map(str, [i, *x[8:12, 8:12].ravel()])) for i, x in enumerate(GOOD))).encode()

@settings(max_examples=300, derandomize=True, database=None, deadline=10_000, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.sampled_from([('a-images-idx3-ubyte', IDX), ('a-images-idx3-ubyte.gz', gzip.compress(IDX)), ('a.csv', CSV), ('a.csv.gz', gzip.compress(CSV))]), st.data())
def test_damaged_idx_and_csv_say_so_in_one_line(tmp_path_factory, source, draw):
    name, data = source
    at = draw.draw(st.integers(0, len(data) - 1) | st.integers(0, 40))
    new = draw.draw(st.binary(max_size=8) | st.sampled_from([b'\xff'*4, b'\x7f\xff\xff\xff', b'1'*30, b'-', b'\n', b',', b'"', b'\0']))
    data = data[:at] + new + data[at + draw.draw(st.sampled_from([0, len(new), 10**6])):]
    path = tmp_path_factory.getbasetemp()/name
    path.write_bytes(data)
    try: images = Images.from_csv(path) if '.csv' in name else Images.from_idx(path)
    except ValueError as e: assert str(path) in str(e) and len(str(e).splitlines()) == 1, e
    else: assert len(images) <= 40

def test_gzip_bombs_are_not_unfolded(tmp_path):
    with gzip.open(tmp_path/'a-images-idx3-ubyte.gz', 'wb') as f: f.write(bytes([0, 0, 8, 3, 0, 1, 0, 0, 0, 0, 64, 0, 0, 0, 64, 0]) + bytes(2**27))
    with pytest.raises(ValueError, match='promises .* bytes; of a gzip file of this size'): Images.from_idx(tmp_path/'a-images-idx3-ubyte.gz')
    for name, data in {'line.csv.gz': b'pixel0' + b'0'*2**27, 'rows.csv.gz': b'pixel0\n' + b'0\n'*2**26}.items():
        with gzip.open(tmp_path/name, 'wb') as f: f.write(data)
        with pytest.raises(ValueError, match='unfolds to more than'): Images.from_csv(tmp_path/name)

@needs_posix
def test_a_pipe_in_place_of_a_table_is_not_waited_for(tmp_path):
    for name in ('a-images-idx3-ubyte', 'a.csv', 'a.csv.gz'):
        os.mkfifo(tmp_path/name)
        with pytest.raises(ValueError, match='is not a file'): (Images.from_csv if 'csv' in name else Images.from_idx)(tmp_path/name)
