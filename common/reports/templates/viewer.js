"use strict";
// The viewer of a report: one NiiVue per volume, side by side, all at one place of the patient.
(() => {
  const PLANES = ["sagittal", "coronal", "axial"]; // along X, Y and Z
  const BLEND = "blend";
  const part = (name) => document.getElementById(`viewer-${name}`);
  const cases = JSON.parse(part("cases").textContent);
  const linked = new Map(); // what the files beside the page brought
  let library, views = [], shown, place = [0, 0, 0], moving = false, turn = 0;

  window.reportVolume = (id, data) => linked.set(id, data);

  const say = (text) => { part("status").textContent = text; };

  async function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function load(volume) {
    if (volume.file && !linked.has(volume.id)) {
      await new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = volume.file;
        script.onload = done;
        script.onerror = () => failed(new Error(`${volume.file} must lie beside this page, but could not be read`));
        document.head.append(script);
      });
    }
    return unpacked(volume.file ? linked.get(volume.id) : document.getElementById(`volume-${volume.id}`).textContent);
  }

  async function newView(key, box) {
    const canvas = document.createElement("canvas");
    canvas.className = key;
    canvas.setAttribute("aria-hidden", "true");
    box.append(canvas);
    const view = new library.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 0.82, 0.4, 0.8], crosshairWidth: 0.4, crosshairWidthUnit: "percent",
      crosshairGap: 6, isRadiologicalConvention: true,
      show3Dcrosshair: false, isColorbar: false, dragAndDropEnabled: false, loadingText: "", logLevel: "error",
      multiplanarShowRender: library.SHOW_RENDER.NEVER, multiplanarLayout: library.MULTIPLANAR_TYPE.COLUMN,
      multiplanarEqualSize: false, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", fontMinPx: 11,
      dragMode: library.DRAG_MODE.none, dragModePrimary: library.DRAG_MODE.crosshair, isAlphaClipDark: false,
    });
    await view.attachToCanvas(canvas);
    view.addColormap("difference", shown.difference);
    view.setSliceType(library.SLICE_TYPE.MULTIPLANAR);
    view.key = key;
    return view;
  }

  function newPanel(volume, size) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = volume.title;
    const box = document.createElement("div");
    box.className = "viewer-box";
    box.style.aspectRatio = `${Math.max(size[0], size[1])} / ${size[1] + 2 * size[2]}`;
    const value = document.createElement("small");
    value.dataset.volume = volume.key;
    figure.append(caption, box, value);
    part("panels").append(figure);
    return { box, value };
  }

  async function show(index) {
    const mine = ++turn;
    say("Loading …");
    views.forEach((view) => view.gl.getExtension("WEBGL_lose_context")?.loseContext());
    views = [];
    part("panels").replaceChildren();
    shown = cases[index];
    part("panels").style.setProperty("--columns", shown.volumes.length);
    part("window").replaceChildren(...shown.presets.map((preset, i) => new Option(preset.name, i)));
    for (const volume of shown.volumes) {
      const buffer = await load(volume);
      if (mine !== turn) return;
      const { box, value } = newPanel(volume, shown.size_mm);
      // The output lies over the source, too, as transparent as the slider says.
      const output = volume.key === "source" && shown.volumes.find((other) => other.key === "output");
      const layers = [[volume, buffer, volume.key]].concat(output ? [[output, await load(output), BLEND]] : []);
      for (const [layer, data, key] of layers) {
        const view = await newView(key, box);
        const image = await library.NVImage.loadFromUrl({
          url: data, name: "volume.nii", colormap: layer.colours, cal_min: layer.window[0], cal_max: layer.window[1],
        });
        view.addVolume(image);
        if (mine !== turn) return;
        view.volume = layer;
        view.value = key === BLEND ? null : value;
        view.onLocationChange = (found) => moved(view, found);
        views.push(view);
      }
    }
    blend();
    const middle = shown.place_mm;
    const dims = views.find((view) => view.key === "output").volumes[0].dimsRAS;
    PLANES.forEach((plane, axis) => { part(plane).max = dims[axis + 1] - 1; });
    moveTo(middle);
    say(`${shown.title}: ${shown.volumes.length} volumes.`);
    part("panels").dataset.ready = index;
  }

  const reference = () => views.find((view) => view.key === "output");

  function moved(view, found) {
    if (view.value && found.values.length) {
      const number = found.values[0].value;
      view.value.textContent = `${Number(number.toPrecision(5))} ${shown.unit}`.trim();
      view.value.dataset.value = number;
    }
    if (!moving) moveTo([...found.mm].slice(0, 3), view);
  }

  // Move all views to a place in mm; the one that was clicked is there already.
  function moveTo(mm, from) {
    moving = true;
    place = mm;
    for (const view of views) {
      if (view !== from) {
        view.scene.crosshairPos = view.mm2frac(mm);
        view.drawScene();
      }
      view.createOnLocationChange();
    }
    const voxel = reference().frac2vox(reference().mm2frac(mm));
    PLANES.forEach((plane, axis) => { part(plane).value = voxel[axis]; });
    part("panels").dataset.voxel = [...voxel].join(",");
    moving = false;
  }

  function step(axis, change) {
    const view = reference();
    const voxel = [...view.frac2vox(view.mm2frac(place))];
    const last = view.volumes[0].dimsRAS[axis + 1] - 1;
    voxel[axis] = Math.min(Math.max(voxel[axis] + change, 0), last);
    moveTo([...view.frac2mm(view.vox2frac(voxel))].slice(0, 3));
  }

  function applyWindow() {
    const windows = shown.presets[part("window").value].windows;
    for (const view of views) {
      const limits = windows[view.volume.key];
      if (!limits) continue;
      [view.volumes[0].cal_min, view.volumes[0].cal_max] = limits;
      view.updateGLVolume();
    }
  }

  function blend() {
    const over = document.querySelector(`#viewer-panels .${BLEND}`);
    if (over) over.style.opacity = part("blend").value / 100;
  }

  function keys(event) {
    const steps = {
      PageUp: [2, 1], PageDown: [2, -1], ArrowUp: [1, 1], ArrowDown: [1, -1], ArrowRight: [0, -1], ArrowLeft: [0, 1],
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !views.length) return;
    if (event.key in steps) step(...steps[event.key]);
    else if (event.key.toLowerCase() === "w") {
      part("window").selectedIndex = (part("window").selectedIndex + 1) % part("window").length;
      applyWindow();
    } else return;
    event.preventDefault();
  }

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      say("This browser shows no WebGL 2, which the viewer needs; the pictures below do without.");
      return;
    }
    const code = new Blob([await unpacked(part("library").textContent)], { type: "text/javascript" });
    library = await import(URL.createObjectURL(code));
    await show(0);
  }

  const failed = (error) => say(`The viewer could not go on: ${error.message}. The pictures below are complete.`);
  part("case").replaceChildren(...cases.map((each, index) => new Option(each.title, index)));
  part("case").addEventListener("change", (event) => show(event.target.value).catch(failed));
  part("window").addEventListener("change", applyWindow);
  part("blend").addEventListener("input", blend);
  part("panels").addEventListener("keydown", keys);
  PLANES.forEach((plane, axis) => part(plane).addEventListener("input", (event) => {
    const view = reference();
    step(axis, event.target.value - [...view.frac2vox(view.mm2frac(place))][axis]);
  }));
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      start().catch(failed);
    }
  }).observe(part("panels").parentElement);
})();
