"""The studio: the engine's nouns, seen. It never trains and never imports torch.

    shell      the page around the pages: header, navigation in path order, theme, help
    session    what one browser session shares: workspace, draft, chosen runs
    draft      what a person has set so far; may be wrong, and says where
    forms      config class -> widgets with help, limits and errors beside the field
    watch      follows run folders in one thread, for all sessions
    plots      data -> HoloViews            live    figures that stream and keep their zoom
    figures    the still pictures           texts   what documents, tokenizers and models wrote, escaped
    views      what pages are built of      theme   colours and type, light and dark
    layout     how cards stand on a page    account     what the steps did to a corpus
    background one piece of work in a thread, asked for its result by the page's tick
    serve      the server                   notebook   show(page), show(run) in a Jupyter cell
    pages/     one page a noun
"""
