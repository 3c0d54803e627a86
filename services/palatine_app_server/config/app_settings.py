"""The options that say where the app comes from, as one value; ConfigError names the line that is wrong."""

from palatine.config import Config
from palatine_app_server.config.front_settings import mounts
from palatine_app_server.config.values import pair
from palatine_app_server.serving.loader import AppSource


def read(config: Config) -> AppSource:
    """The app's source in `config`."""
    settings = config.settings

    def text(name: str) -> str:
        return settings.text(name, "")

    paste = text("paste")
    ini = text("ini-paste") or text("ini-paste-logged")
    return AppSource(
        module=text("module"),
        wsgi_file=text("wsgi-file"),
        callable=text("callable"),
        python_path=settings.texts("pythonpath"),
        virtualenv=text("virtualenv"),
        chdir=text("chdir"),
        chdir2=text("chdir2"),
        eval=text("eval"),
        paste=paste or (f"config:{ini}" if ini else ""),
        paste_logger=settings.flag("paste-logger") or settings.given("ini-paste-logged") is not None,
        pecan=text("pecan"),
        mounts=mounts(config),
        manage_script_name=settings.flag("manage-script-name"),
        ignore_script_name=settings.flag("ignore-script-name"),
        no_default=settings.flag("no-default-app"),
        aliases=settings.each("pymodule-alias", lambda value: pair(value, "a module's name, = and a module or file")),
        late_aliases=settings.each("post-pymodule-alias", lambda value: pair(value, "a module's name, = and a module")),
        imports=settings.texts("shared-import") + settings.texts("import"),
        argv=tuple(text("pyargv").split()),
    )
