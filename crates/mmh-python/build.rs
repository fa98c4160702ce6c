//! How a module of Python is linked where the linker wants to be told (macOS).

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
