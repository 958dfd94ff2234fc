"""WsgiDAV, with its files in the directory that DAV_ROOT names."""

import os

from wsgidav.wsgidav_app import WsgiDAVApp

application = WsgiDAVApp(
    {
        "provider_mapping": {"/": os.environ["DAV_ROOT"]},
        "simple_dc": {"user_mapping": {"*": True}},
        "lock_storage": True,
        "property_manager": True,
        "verbose": 1,
    }
)
