"The page in a real browser, opened from disk without a network: hovering, pinning, lasso, legend, search, CSV, hostile names."
import csv, io, shutil
import numpy as np, pytest
from PIL import Image
from cae.clusters import Groups
from cae.explorer import rename_groups, save_explorer
from cae.images import Images, mnist
from cae.maps import NearestMap
from cae.models import ResNetAutoencoder

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no chromium found: install the package chromium to test the page')
HOSTILE = ['</script><script>window.ran=1</script>', '<img src=x onerror="window.ran=1">', '"quotes", \'single\', and a, comma', '../../etc/passwd\\..',
           'ä 文字 🙂 \u202egnp.exe', 'x'*300, '&lt;b&gt; &amp; {title} {css} ${1}', '=1+1', 'two\nlines', "javascript:alert('1')"]

@pytest.fixture(scope='module')
def page_path(tmp_path_factory):
    "A page of 300 digits in three heaps, which no network had to be trained for."
    digits = mnist('test')[:300]
    images = Images(digits.pixels, digits.labels, HOSTILE + [f'scan {i:03}' for i in range(10, 300)], [f'<b>{c}</b>' for c in range(10)])
    rng, labels = np.random.default_rng(0), np.arange(300) % 3
    labels[:2] = -1
    xy = (np.array([[-10, 0], [10, 0], [0, 15], [0, -8]])[labels] + rng.normal(0, 1.5, (300, 2))).astype(np.float32)
    found = Groups(xy, NearestMap(xy, xy), labels, rng.random(300, dtype=np.float32))
    return save_explorer(tmp_path_factory.mktemp('page')/'map.html', images, found.map, found, ResNetAutoencoder(n_latent=8), names={0: HOSTILE[1]}, title=HOSTILE[0])

@pytest.fixture(scope='module')
def browser():
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield b
        b.close()

@pytest.fixture(params=['light', 'dark'])
def page(request, browser, page_path):
    "The page, open; at the end nothing may have been said on the console, asked of a network, or run out of a name."
    context = browser.new_context(viewport=dict(width=1200, height=800), color_scheme=request.param, offline=True, accept_downloads=True)
    page, said, asked = context.new_page(), [], []
    page.on('console', lambda m: m.type == 'error' and said.append(m.text))
    page.on('pageerror', lambda e: said.append(str(e)))
    page.on('request', lambda r: r.url.startswith(('data:', 'blob:', 'file:')) or asked.append(r.url))
    page.goto(page_path.as_uri())
    page.wait_for_selector('body[data-ready]', timeout=30_000)
    yield page
    assert page.evaluate('window.ran') is None
    assert not said and not asked
    context.close()

def test_renamed_groups(browser, page_path, tmp_path):
    renamed = rename_groups(shutil.copy(page_path, tmp_path/'map.html'), {1: HOSTILE[0], 2: 'threes'})
    page, said = browser.new_page(), []
    page.on('console', lambda m: m.type == 'error' and said.append(m.text))
    page.goto(renamed.as_uri())
    page.wait_for_selector('body[data-ready]', timeout=30_000)
    assert [HOSTILE[0] in t or 'threes' in t for t in page.locator('#legend li').all_text_contents()] == [False, True, True, False]
    assert HOSTILE[1] not in page.locator('#legend').text_content()                # it was the name of the first
    assert page.evaluate('window.ran') is None and not said
    page.close()

def where(page, i):
    "Where on the screen the image number `i` of the collection is, and its place on the page."
    j = page.evaluate('i => col.number.indexOf(i)', i)
    return *page.evaluate('j => place(j)', j), j

def seen(page): return np.asarray(Image.open(io.BytesIO(page.locator('#map').screenshot())).convert('RGB')).astype(int)
def settled(page): page.evaluate('() => new Promise(r => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(r)), 150))')

def test_points_are_drawn_in_the_colours_of_their_groups(page):
    settled(page)
    x = seen(page)
    for g in (0, 1, 2):
        color = page.evaluate('g => hue(groups.find(e => e.id === g))', g)
        near = np.abs(x - [color >> 16, color >> 8 & 255, color & 255]).max(2) < 45
        assert near.sum() > 200, g
    assert (np.abs(x - x[-2, -2]).max(2) > 60).mean() < .3                        # and the rest of the page is empty

def test_hover_and_pin(page):
    x, y, j = where(page, 3)
    page.mouse.move(x, y)
    page.wait_for_selector('#tip:not([hidden])')
    assert page.locator('#tip canvas').count() == 2                                # the image and its reproduction
    assert page.locator('#tip .name').text_content() == HOSTILE[3]
    assert '<b>0</b>' in page.locator('#tip .facts').text_content()                # the label of test image 3, as text
    page.mouse.click(x, y)
    page.wait_for_selector('#pinned:not([hidden])')
    nearest = page.locator('#pinned .near button')
    want = page.evaluate('j => near(j).map(k => names[k])', j)
    assert nearest.count() == 8 and [b.get_attribute('title') for b in nearest.all()] == want
    page.wait_for_function("() => { const c = document.querySelector('#pinned canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some((v, i) => i % 4 < 3 && v > 200) }")
    shown = page.evaluate("() => { const c = document.querySelector('#pinned canvas'); return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }")
    assert np.abs(np.reshape(shown, (28, 28, 4))[..., 0] - mnist('test').pixels[3, 0].astype(int)).mean() < 6          # the very image, as WebP left it
    nearest.first.click()
    assert page.locator('#pinned .name').text_content() == want[0]
    page.keyboard.press('Escape')
    assert page.locator('#pinned').is_hidden()

def rows(page):
    with page.expect_download() as d: page.click('#save')
    return list(csv.DictReader(open(d.value.path(), newline='', encoding='utf-8')))

def lasso(page, l, t, r, b):
    page.click('#lasso')
    page.mouse.move(l, t)
    page.mouse.down()
    for x, y in ((r, t), (r, b), (l, b), (l, t)): page.mouse.move(x, y, steps=6)
    page.mouse.up()

def around_group_1(page):
    where_all = np.array(page.evaluate("Array.from(col.group, (g, i) => g === 1 ? place(i) : null).filter(Boolean)"))
    return *(where_all.min(0) - 12), *(where_all.max(0) + 12)

def test_lasso_lists_and_saves(page):
    lasso(page, *around_group_1(page))
    page.wait_for_selector('#chosen:not([hidden])')
    inside = [i for i in range(300) if i % 3 == 1 and i > 1]
    assert page.locator('#chosen h2 span').text_content() == f'{len(inside)} in the lasso'
    assert page.locator('#chosen li').count() == 60
    page.click('#more')
    assert page.locator('#chosen li').count() == len(inside)
    table = rows(page)
    assert list(table[0]) == ['name', 'group', 'cluster', 'label', 'confidence', 'error']               # one group has a name
    assert [r['name'] for r in table] == [HOSTILE[i] if i < 10 else f'scan {i:03}' for i in inside]
    assert {r['group'] for r in table} == {'1'} == {r['cluster'] for r in table}

def test_lasso_again_and_again(page):
    "Around the same points after the list was closed, and after a search; and around nothing."
    around, title = around_group_1(page), page.locator('#chosen h2 span')
    lasso(page, *around)
    page.wait_for_selector('#chosen:not([hidden])')
    first = title.text_content()
    page.click('#chosen .close')
    assert page.locator('#chosen').is_hidden()
    lasso(page, *around)
    page.wait_for_selector('#chosen:not([hidden])')
    assert title.text_content() == first
    page.fill('#search', 'SCAN 29')
    page.wait_for_function("document.querySelector('#chosen h2 span').textContent === '10 found by name'")
    lasso(page, *around)
    page.wait_for_function('was => document.querySelector("#chosen h2 span").textContent === was', arg=first)
    x, y = page.evaluate("(() => { for (let y = 90; y < 700; y += 20) for (let x = 90; x < 500; x += 20) if (nearest(x, y, 30) < 0) return [x, y] })()")
    lasso(page, x - 8, y - 8, x + 8, y + 8)
    page.wait_for_selector('#chosen', state='hidden')

def test_named_groups_keep_their_numbers(browser, page_path, tmp_path):
    "A group that is called 1 is not taken for group 1, and one sees which number a name stands for."
    page = browser.new_page()
    page.goto(rename_groups(shutil.copy(page_path, tmp_path/'map.html'), {0: '1', 2: 'threes'}).as_uri())
    page.wait_for_selector('body[data-ready]', timeout=30_000)
    assert page.locator('#legend .what').all_text_contents() == ['1', 'group 1', 'threes', 'no group']
    assert [page.locator('#legend .what').nth(k).get_attribute('title') for k in range(3)] == ['1 (group 0)', 'group 1', 'threes (group 2)']
    assert page.evaluate('groups.filter(e => e.id >= 0).map(e => facts(e.heart)[0])') == ['1 (group 0)', 'group 1', 'threes (group 2)']
    page.close()

def test_on_a_telephone(browser, page_path):
    "What is pinned is in sight, and points are as large as they are after a zoom and back."
    context = browser.new_context(viewport=dict(width=390, height=844), has_touch=True, offline=True)
    page = context.new_page()
    page.goto(page_path.as_uri())
    page.wait_for_selector('body[data-ready]', timeout=30_000)
    size = page.evaluate('dots.size.value')
    assert size == page.evaluate('(zoom(.5), fit(), dots.size.value)') == round(2*page.evaluate('about.size'))/2
    page.touchscreen.tap(*where(page, 3)[:2])
    page.wait_for_selector('#pinned:not([hidden])')
    box = page.locator('#pinned .pair').bounding_box()
    assert box['y'] + box['height'] < 844
    context.close()

def test_search_by_name(page):
    page.fill('#search', 'SCAN 29')
    page.wait_for_function("document.querySelector('#chosen h2 span').textContent === '10 found by name'")
    assert [r['name'] for r in rows(page)] == [f'scan {i}' for i in range(290, 300)]
    for i, name in enumerate(HOSTILE):
        if '\n' in name: continue                                                  # a search field has one line
        page.fill('#search', name)
        page.wait_for_function('n => chosen.some(i => names[i] === n)', arg=name)
    page.fill('#search', 'nobody is called this')
    page.wait_for_function("document.querySelector('#chosen h2 span').textContent === '0 found by name'")
    assert page.locator('#save').is_disabled()
    page.keyboard.press('Escape')
    assert page.locator('#chosen').is_hidden()

def test_groups_are_switched_off_and_on(page):
    settled(page)
    before, (x, y, j) = seen(page), where(page, 30)                                # in group 0, whose name is hostile
    row = page.locator('#legend li').first
    assert row.locator('.what').text_content() == HOSTILE[1]
    row.locator('input').uncheck()
    page.mouse.move(600, 790)
    settled(page)
    assert (np.abs(seen(page) - before).max(2) > 40).sum() > 500
    assert page.evaluate('([x, y]) => nearest(x, y)', [x, y]) == -1                # what is not shown is not found
    page.fill('#search', 'scan')
    page.wait_for_function("n => document.querySelector('#chosen h2 span').textContent === `${n} found by name`",
                           arg=sum(i % 3 > 0 for i in range(10, 300)))
    page.fill('#search', '')
    page.wait_for_selector('#chosen', state='hidden')
    page.click('#all')
    assert page.evaluate('([x, y]) => nearest(x, y)', [x, y]) >= 0

def test_colours(page):
    settled(page)
    pictures = []
    for by in ('group', 'label', 'confidence', 'error'):
        page.select_option('#by', by)
        page.mouse.move(600, 790)
        settled(page)
        pictures.append(seen(page))
        assert page.locator('#scale').is_visible() == (by in ('confidence', 'error'))
    for a, b in zip(pictures, pictures[1:]): assert (np.abs(a - b).max(2) > 40).sum() > 500

def test_keys(page):
    page.focus('#map')
    width = lambda: page.evaluate('range.x.end - range.x.start')
    whole, left = width(), page.evaluate('range.x.start')
    page.keyboard.press('+')
    assert width() < whole*.8
    page.keyboard.press('0')
    assert np.isclose(width(), whole)
    page.keyboard.press('ArrowRight')
    assert page.evaluate('range.x.start') > left
    page.keyboard.press('Enter')
    assert page.locator('#pinned').is_visible()
    page.keyboard.press('L')                                                       # as with caps lock
    assert page.locator('#lasso').get_attribute('aria-pressed') == 'true'
    page.keyboard.press('/')
    assert page.evaluate('document.activeElement.id') == 'search'

def test_near_enough_the_points_are_images(page):
    j = page.evaluate('groups[1].heart')
    page.evaluate('j => look(col.x[j], col.y[j], about.half/12)', j)
    page.wait_for_function("inSight(300)?.length > 0")
    settled(page)
    x, y = (int(v) for v in page.evaluate('j => place(j)', j))
    patch = seen(page)[y-12:y+12, x-12:x+12]
    assert patch.min() < 60 and patch.max() > 200                                  # ink and ground of a digit

def test_on_a_phone_nothing_sticks_out(browser, page_path):
    context = browser.new_context(viewport=dict(width=390, height=780), has_touch=True, is_mobile=True, offline=True)
    page = context.new_page()
    page.goto(page_path.as_uri())
    page.wait_for_selector('body[data-ready]', timeout=30_000)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    x, y, j = where(page, 100)
    page.touchscreen.tap(x, y)
    page.wait_for_selector('#pinned:not([hidden])')
    context.close()
